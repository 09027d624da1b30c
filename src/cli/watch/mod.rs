//! `acopio watch`: tells which device falls silent, comes back, or leaves its range, and has something done about it.

mod act;
mod silence;

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::Result;
use clap::builder::BoolishValueParser;
use clap::{Args, ValueEnum};
use tokio_util::sync::CancellationToken;

use self::act::{Acts, Doing, Told, Webhook};
use self::silence::{Devices, Event, Silent, Wanted, What};
use super::asked::{Asked, tell_unheard, unheard};
use super::events::{Teller, each, look_for_notes, say};
use super::known::known;
use super::moment::{Zone, now_ns};
use super::readings::Readings;
use super::{Global, Outcome, logging, print, runtime, values};
use crate::client::reader::{self, Config, Event as ReaderEvent, Query};
use crate::limits::{self, WATCH_LEARN_TIME};
use crate::reading::UnixNs;
use crate::wire::filter::SourceFilter;
use crate::wire::id::RecordId;

const AFTER_HELP: &str = "\
Examples:
  acopio watch --head 127.0.0.1:5000
      a line when a device is silent for three of its own periods
  acopio watch --silent 10m --out temp:5..45 --exec 'mail -s \"$ACOPIO_TEXT\" me'
      the same time for all, a range, and something done about it
  acopio watch --webhook http://127.0.0.1:8080/alarm
      each event as JSON: event, source, time, field, value, text
  acopio watch --once --since 1d || echo 'somebody is silent'
      for cron: what is so now

A device's period is the median of its last intervals, learnt from what came
since --since (an hour ago) and from what comes. Of who said nothing since then
the heads know when it was heard last, and its period. Name devices with --from
where one is silent for good. Readings that notes hide leave no range; notes
that come while it watches are not heeded. A command has 30 seconds, and
the event in ACOPIO_EVENT (silent, back, out, in), ACOPIO_SOURCE, ACOPIO_TIME,
ACOPIO_FIELD, ACOPIO_VALUE and ACOPIO_TEXT; a request has 10 seconds, three
times. Four of them run at the same time, 64 wait.

Exit codes:
  0    ended by Ctrl-C; with --once: no device is silent or out of its range
  1    it failed; with --once: some device is, nothing was heard of a name in
       --from, or no message has a field of --out
  2    bad usage";

/// Tells when a device falls silent, comes back, or leaves its range
#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP, mut_arg("dir", |arg| arg.env("ACOPIO_WATCH_DIR")))]
pub(crate) struct Watch {
    #[command(flatten)]
    asked: Asked,
    /// After what a device is silent: so many of its own periods (3x), or a time (10m)
    #[arg(long, env = "ACOPIO_WATCH_SILENT", value_name = "WHEN", default_value = "3x", value_parser = silent)]
    silent: Silent,
    /// A range that a field should be in; several with commas, or the flag several times
    #[arg(long, env = "ACOPIO_OUT", value_name = "FIELD:FROM..TO", value_delimiter = ',', allow_hyphen_values = true,
        value_parser = wanted)]
    out: Vec<Wanted>,
    /// Run this by a shell for each event
    #[arg(long, env = "ACOPIO_EXEC", value_name = "CMD")]
    exec: Option<String>,
    /// Post each event there, as JSON: http://HOST:PORT/PATH; for https, --exec 'curl …' does it
    #[arg(long, env = "ACOPIO_WEBHOOK", value_name = "URL", value_parser = act::webhook)]
    webhook: Option<Webhook>,
    /// Tell what is so now, and end
    #[arg(long, env = "ACOPIO_ONCE", value_parser = BoolishValueParser::new())]
    once: bool,
    /// How to print events
    #[arg(long, env = "ACOPIO_WATCH_FORMAT", value_name = "FORMAT", value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A line for people
    Text,
    /// An object a line
    Json,
}

fn silent(text: &str) -> Result<Silent, String> {
    let Some(factor) = text.strip_suffix('x') else {
        return values::duration(text).map(Silent::After).map_err(|error| format!("{error}, or 3x for three periods"));
    };
    let factor = factor.parse().ok().filter(|factor: &f64| (1.0..=1e6).contains(factor));
    factor.map(Silent::Periods).ok_or_else(|| "no factor of 1 or more; write 3x, or a time such as 10m".to_owned())
}

fn wanted(text: &str) -> Result<Wanted, String> {
    let wrong = || "no range; write a field, a colon and two numbers: temp:5..45, temp:..45 or temp:5..".to_owned();
    let (field, range) = text.split_once(':').ok_or_else(wrong)?;
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    let bound = |text: &str, open: f64| match text {
        "" => Ok(open),
        text => text.parse().ok().filter(|bound: &f64| bound.is_finite()).ok_or_else(wrong),
    };
    let range = bound(from, f64::NEG_INFINITY)?..=bound(to, f64::INFINITY)?;
    if field.is_empty() || range.is_empty() || (from.is_empty() && to.is_empty()) {
        return Err(wrong());
    }
    Ok(Wanted { field: field.to_owned(), range })
}

impl Watch {
    /// Watches until it is told to end, or once.
    pub(crate) fn run(self, global: Global) -> Result<Outcome> {
        logging::start(Global { quiet: global.quiet || !global.verbose, ..global }, &[])?;
        let (zone, readings) = (self.asked.zone()?, Readings::new(self.asked.rules()?));
        let mut query = self.asked.query(&zone);
        if !self.asked.has_since() {
            let learn = u64::try_from(WATCH_LEARN_TIME.as_nanos()).unwrap_or(0);
            query.from = RecordId { time_ns: now_ns().saturating_sub(learn), incarnation: 0 };
        }
        let acts = Acts { exec: self.exec, webhook: self.webhook };
        let watching = Watching {
            devices: Devices::new(self.silent, self.out),
            readings,
            zone,
            format: self.format,
            quiet: global.quiet,
            acts,
            told_beyond: false,
        };
        if self.once {
            let config = self.asked.config()?;
            return runtime::run_short(watching.once(&config, query));
        }
        if self.asked.is_of_folders() {
            print::err("acopio: folders do not change while they are watched; add --once, or name a cluster");
            return Ok(Outcome::Unusable);
        }
        runtime::run_role(limits::STOP_TIME_MAX, runtime::EndsWith::Terminal, async |shutdown| {
            let Some(heads) = self.asked.heads.followed(&shutdown).await? else { return Ok(Outcome::Done) };
            let config = Config { retry_for: self.asked.retry_for, ..Config::following(heads) };
            watching.follow(&config, query, &shutdown).await
        })
    }
}

/// A watch under way.
struct Watching {
    devices: Devices,
    readings: Readings,
    zone: Zone,
    format: Format,
    quiet: bool,
    acts: Acts,
    told_beyond: bool,
}

impl Watching {
    /// What is so now.
    async fn once(mut self, config: &Config, query: Query) -> Result<Outcome> {
        let mut doing = Doing::new(self.acts.clone());
        let (now, sources) = (query.until.time_ns.min(now_ns()), query.sources.clone());
        let out = self.learn(config, query).await?.1;
        let unheard = unheard(&sources, self.devices.names());
        self.know(config, &sources, now).await?;
        for event in out.into_iter().chain(self.devices.tick(now)) {
            self.tell(&event, &mut doing)?;
        }
        // A command has its own bound, and a request has its tries.
        doing.end(Duration::MAX).await;
        tell_unheard(&unheard);
        let is_unseen = self.tell_unseen();
        let is_wrong = self.devices.is_anything_wrong() || !unheard.is_empty() || is_unseen;
        Ok(if is_wrong { Outcome::Failed } else { Outcome::Done })
    }

    /// Takes in who said nothing in this time, as the heads know it.
    async fn know(&mut self, config: &Config, sources: &SourceFilter, until_ns: u64) -> Result<()> {
        for device in known(config, sources).await?.into_iter().filter(|device| device.last_ns < until_ns) {
            self.devices.know(device);
        }
        Ok(())
    }

    /// Says of which fields nothing was heard. Whether there are some.
    fn tell_unseen(&self) -> bool {
        let unseen = self.devices.unseen();
        if unseen.is_empty() {
            return false;
        }
        let names: Vec<&str> = self.devices.fields().collect();
        let there =
            if names.is_empty() { "none was read".to_owned() } else { format!("there are: {}", names.join(", ")) };
        say(&format!("no message in this time has a field {}; {there}", unseen.join(" or ")));
        true
    }

    /// Learns from what there is: up to where, and which values are out of their ranges by then.
    async fn learn(&mut self, config: &Config, query: Query) -> Result<(RecordId, Vec<Event>)> {
        look_for_notes(&mut self.readings, config, &query, self.quiet).await?;
        let mut teller = Teller::new(self.quiet, config, false);
        let mut out: Vec<Event> = Vec::new();
        let end = each(config, Query { follow: false, ..query }, &mut teller, |message| {
            let Some((reading, _)) = self.readings.hear(message) else { return };
            for event in self.devices.heard(&reading) {
                match &event.what {
                    What::Out { .. } => out.push(event),
                    What::In { field, .. } => out.retain(|before| {
                        !matches!(&before.what, What::Out { field: other, .. } if other == field && before.source == event.source)
                    }),
                    What::Silent { .. } | What::Back { .. } => {}
                }
            }
        })
        .await?;
        Ok((end, out))
    }

    async fn follow(mut self, config: &Config, query: Query, shutdown: &CancellationToken) -> Result<Outcome> {
        let mut doing = Doing::new(self.acts.clone());
        let watched = tokio::select! {
            biased;
            () = shutdown.cancelled() => Ok(()),
            watched = self.watch(config, query, &mut doing) => watched,
        };
        doing.end(limits::CLOSE_TIME_MAX).await;
        watched.map(|()| Outcome::Done)
    }

    async fn watch(&mut self, config: &Config, query: Query, doing: &mut Doing) -> Result<()> {
        let until = query.until;
        let now = RecordId { time_ns: now_ns(), incarnation: 0 };
        let (end, out) = self.learn(config, Query { until: until.min(now), ..query.clone() }).await?;
        // Who is asked and away is told of by the reader.
        if let Err(error) = self.know(config, &query.sources, now.time_ns).await {
            say(&format!("{error:#}; who was silent before --since is not watched"));
        }
        self.tell_unseen();
        let mut events: VecDeque<Event> = out.into();
        let mut teller = Teller::new(self.quiet, config, true);
        let mut reader = reader::read(config.clone(), Query { from: end, follow: true, ..query });
        loop {
            events.extend(self.devices.tick(now_ns()));
            while let Some(event) = events.pop_front() {
                self.tell(&event, doing)?;
            }
            let patience = self.devices.due().map(|due| Duration::from_nanos(due.saturating_sub(now_ns())));
            let quiet = async {
                match patience {
                    Some(patience) => tokio::time::sleep(patience).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = reader.next() => match event {
                    Some(Ok(ReaderEvent::Message(message))) => {
                        let heard = self.readings.hear(&message);
                        events.extend(heard.iter().flat_map(|(reading, _)| self.devices.heard(reading)));
                    }
                    Some(Ok(event)) => teller.tell(&event),
                    Some(Err(error)) => teller.failed(error)?,
                    None => return Ok(()),
                },
                () = quiet => {}
            }
        }
    }

    fn tell(&mut self, event: &Event, doing: &mut Doing) -> Result<()> {
        let told = in_words(event, &self.zone);
        let line = match self.format {
            Format::Text => format!("{}  {}\n", told.time, told.text),
            Format::Json => format!("{}\n", serde_json::to_string(&told)?),
        };
        print::out("events", &line)?;
        doing.begin(&told);
        if self.devices.beyond > 0 && !std::mem::replace(&mut self.told_beyond, true) {
            say(&format!("there are more than {} devices; the others are not watched", limits::WATCH_DEVICES_MAX));
        }
        Ok(())
    }
}

fn in_words(event: &Event, zone: &Zone) -> Told {
    let Event { source, time_ns, what } = event;
    let name = if source.is_empty() { "(no name)" } else { source };
    // Nobody reads more than a millisecond of these.
    let show = |ns: u64| values::show(Duration::from_millis(ns / 1_000_000));
    let (text, field, value) = match what {
        What::Silent { for_ns, period_ns } => {
            let period = period_ns.map_or_else(String::new, |period| format!(", and speaks every {}", show(period)));
            (format!("{name} is silent for {}{period}", show(*for_ns)), None, None)
        }
        What::Back { after_ns } => (format!("{name} is back after {}", show(*after_ns)), None, None),
        What::Out { field, value } => {
            (format!("{name}: {field} is {value}, out of its range"), Some(field), Some(*value))
        }
        What::In { field, value } => {
            (format!("{name}: {field} is {value}, in its range again"), Some(field), Some(*value))
        }
    };
    Told {
        event: what.name(),
        source: source.clone(),
        time: zone.show(UnixNs(*time_ns), 3),
        field: field.cloned(),
        value,
        text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silences_and_ranges_are_read() {
        assert_eq!(silent("3x"), Ok(Silent::Periods(3.0)));
        assert_eq!(silent("2.5x"), Ok(Silent::Periods(2.5)));
        assert_eq!(silent("10m"), Ok(Silent::After(Duration::from_secs(600))));
        for text in ["", "x", "0x", "-1x", "nanx", "infx", "3"] {
            assert!(silent(text).is_err(), "{text}");
        }
        assert_eq!(wanted("temp:5..45"), Ok(Wanted { field: "temp".to_owned(), range: 5.0..=45.0 }));
        assert_eq!(wanted("temp:-5..").map(|wanted| wanted.range.contains(&1e9)), Ok(true));
        for text in ["", "temp", "temp:5", "temp:45..5", ":5..45", "temp:..", "temp:a..b", "temp:nan..5"] {
            assert!(wanted(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_event_is_told_in_words() {
        let event = |what| Event { source: "esp7".to_owned(), time_ns: 1_795_234_260_000_000_000, what };
        let told =
            in_words(&event(What::Silent { for_ns: 31_000_000_000, period_ns: Some(10_000_000_000) }), &Zone::utc());
        assert_eq!((told.text.as_str(), told.event), ("esp7 is silent for 31s, and speaks every 10s", "silent"));
        let told = in_words(&event(What::Out { field: "temp".to_owned(), value: 85.0 }), &Zone::utc());
        assert_eq!((told.text.as_str(), told.value), ("esp7: temp is 85, out of its range", Some(85.0)));
        assert_eq!(told.time, "2026-11-21T04:11:00.000Z");
    }
}
