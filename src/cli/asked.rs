//! What the commands that read have in common: where the records are, from when to when, and what their payloads mean.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use clap::Args;
use clap::builder::BoolishValueParser;

use super::heads::Heads;
use super::moment::{self, Moment, Zone};
use super::{print, values};
use crate::check::folders;
use crate::client::reader::{Config, Query};
use crate::files;
use crate::limits::{RULES_BYTES_MAX, SEND_REFUSALS_SHOWN_MAX};
use crate::reading::Rules;
use crate::wire::filter::SourceFilter;
use crate::wire::id::RecordId;
use crate::wire::said::Who;

/// Where to read, and what.
#[derive(Debug, Args)]
pub(crate) struct Asked {
    #[command(flatten)]
    pub(crate) heads: Heads,
    /// Read these data folders, or the folders in these, in place of a cluster; nothing is written there
    #[arg(long, env = "ACOPIO_DIR", value_name = "FOLDER", num_args = 1..)]
    dir: Vec<PathBuf>,
    /// Leave out what is older: than a time ago (10m, '1 hour ago'), a time (today, 08:00, '2026-11-21 10:00'), or a record id
    #[arg(long, env = "ACOPIO_SINCE", value_name = "TIME", value_parser = moment::moment)]
    since: Option<Moment>,
    /// Only messages before this: as --since
    #[arg(long, env = "ACOPIO_UNTIL", value_name = "TIME", value_parser = moment::moment)]
    until: Option<Moment>,
    /// Only messages of these sources: names with commas between them; one that ends in / is a group, with all that is in it
    #[arg(long, env = "ACOPIO_FROM", value_name = "NAMES")]
    from: Option<SourceFilter>,
    /// Read and print times as they are where this machine is, not in UTC
    #[arg(long, env = "ACOPIO_LOCAL", value_parser = BoolishValueParser::new())]
    local: bool,
    /// What payloads mean that do not say it themselves: a file with a line for each device, such as 'esp7: temp °C 5..45'
    #[arg(long, env = "ACOPIO_RULES", value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Leave out data nodes that are away in place of waiting for them
    #[arg(long, env = "ACOPIO_PARTIAL", value_parser = BoolishValueParser::new())]
    partial: bool,
    /// Time to go on trying, while no head answers or data nodes are away, or forever; with --follow there is no end
    #[arg(long, env = "ACOPIO_RETRY_FOR", value_name = "TIME", default_value = "30s", value_parser = values::or_forever)]
    pub(crate) retry_for: Duration,
}

impl Asked {
    /// What is asked for, as of now.
    pub(crate) fn query(&self, zone: &Zone) -> Query {
        let now = SystemTime::now();
        Query {
            from: self.since.map_or(RecordId::ZERO, |since| since.id(now, zone)),
            until: self.until.map_or(RecordId::MAX, |until| until.id(now, zone)),
            sources: self.from.clone().unwrap_or_default(),
            partial: self.partial,
            ..Query::default()
        }
    }

    /// Whether a beginning was given.
    pub(crate) const fn has_since(&self) -> bool {
        self.since.is_some()
    }

    /// The zone of what people read and write.
    pub(crate) fn zone(&self) -> Result<Zone> {
        Ok(Zone::of(self.local)?)
    }

    /// Whether folders are read and no cluster.
    pub(crate) fn is_of_folders(&self) -> bool {
        !self.dir.is_empty()
    }

    /// Where to read, for a command that ends.
    pub(crate) fn config(&self) -> Result<Config> {
        let config = if self.is_of_folders() {
            folders::local(&self.dir)?.into()
        } else {
            Config::following(self.heads.fixed()?)
        };
        Ok(Config { retry_for: self.retry_for, ..config })
    }

    /// What payloads mean.
    pub(crate) fn rules(&self) -> Result<Rules> {
        self.rules.as_deref().map_or_else(|| Ok(Rules::default()), rules)
    }
}

/// The names and groups that were asked for and of which nothing was heard.
pub(crate) fn unheard<'a>(filter: &SourceFilter, heard: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let is_of = |who: &Who, name: &str| {
        let one = SourceFilter::new(vec![*who]).unwrap_or_default();
        name.parse().is_ok_and(|name| one.matches(Some(&name)))
    };
    filter.iter().filter(|who| !heard.clone().any(|name| is_of(who, name))).map(ToString::to_string).collect()
}

/// Says of whom nothing was heard.
pub(crate) fn tell_unheard(unheard: &[String]) {
    if !unheard.is_empty() {
        let names = unheard.join(", ");
        print::err(&format!("acopio: nothing was heard of {names} in this time; 'acopio devices' has the names"));
    }
}

/// What a file of rules says; wrong lines are told, and the others hold.
///
/// # Errors
/// It can't be read, or is too long.
pub(crate) fn rules(path: &Path) -> Result<Rules> {
    let read = || {
        let mut bytes = Vec::new();
        files::read(path)?.take(RULES_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    let bytes =
        read().with_context(|| format!("cannot read the rules in {}; name a file that is there", path.display()))?;
    if bytes.len() as u64 > RULES_BYTES_MAX {
        anyhow::bail!(
            "{} has more than {RULES_BYTES_MAX} bytes; put devices into groups: taller/: temp",
            path.display()
        );
    }
    let (rules, wrong) = Rules::parse(&String::from_utf8_lossy(&bytes));
    for error in wrong.iter().take(SEND_REFUSALS_SHOWN_MAX) {
        print::err(&format!("acopio: {}, {error}; the other lines hold", path.display()));
    }
    if let Some(more) = wrong.len().checked_sub(SEND_REFUSALS_SHOWN_MAX).filter(|more| *more > 0) {
        print::err(&format!("acopio: {}: {more} more lines are wrong", path.display()));
    }
    Ok(rules)
}
