//! What a client says of itself: the name of its source, or of a group of sources that it speaks for, and how it speaks.
//!
//! Words in, meaning out. Where these words stand in a handshake is in [`handshake`](super::handshake); they stand in a head's
//! settings, too, for peers that can't say them.

use std::fmt;

use thiserror::Error;

use super::secret::{NotASecret, Secret, TOKEN};
use super::source::{Flaw, NOTES, NotASource, SourceName};
use super::text::{CLIENTE, Dialect, PETICION, VERSION, quote};

/// No answers at all.
pub const CALLADO: &str = "callado";
/// A carriage return ends a line, too.
pub const CR: &str = "cr";
/// Each message begins with the device's own counter.
pub const NUMERADO: &str = "numerado";
/// Several connections may have the name at a time.
pub const VARIOS: &str = "varios";

/// Whose messages a client sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Who {
    /// Those of this source.
    Source(SourceName),
    /// Those of the sources of this group: each begins with the rest of its source's name.
    Group(SourceName),
}

/// A name that ends in a slash is a group's.
impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(name) => write!(f, "{name}"),
            Self::Group(name) => write!(f, "{name}/"),
        }
    }
}

impl Who {
    /// Reads a name.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(text: &[u8]) -> Result<Self, NotASource> {
        let (name, is_group) = text.strip_suffix(b"/").map_or((text, false), |group| (group, true));
        let wrong = |flaw| NotASource::of(shown(text), flaw);
        match SourceName::from_bytes(name) {
            Ok(group) if is_group => {
                // It has to leave room for what follows.
                SourceName::join(&group, b"x").map_err(wrong)?;
                Ok(Self::Group(group))
            }
            Ok(name) => Ok(Self::Source(name)),
            Err(Flaw::Empty) if is_group => Err(wrong(Flaw::Slash)),
            Err(flaw) => Err(wrong(flaw)),
        }
    }

    /// The source of a message, and the message without the part of the name in front of it.
    ///
    /// # Errors
    /// A message of a group does not begin with the rest of a name.
    pub fn split<'a>(&self, message: &'a [u8]) -> Result<(SourceName, &'a [u8]), NotASource> {
        match self {
            Self::Source(name) => Ok((*name, message)),
            Self::Group(group) => {
                let end = message.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(message.len());
                let rest = message.get(..end).unwrap_or_default();
                let source = SourceName::join(group, rest).map_err(|flaw| NotASource::of(rest, flaw))?;
                Ok((source, message.get(end + 1..).unwrap_or_default()))
            }
        }
    }
}

/// What a client said of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// Whose messages it sends.
    pub who: Who,
    /// It is answered nothing.
    pub quiet: bool,
    /// A carriage return ends a line, too.
    pub cr: bool,
    /// Each message begins with the device's own counter.
    pub numbered: bool,
    /// Other connections may have the same name.
    pub several: bool,
}

/// Why the words of a client are not understood.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum NotSaid {
    /// The name is none.
    #[error(transparent)]
    Name(#[from] NotASource),
    /// A word behind the name is no option.
    #[error("\"{0}\" is not an option; say {CALLADO}, {CR}, {NUMERADO} or {VARIOS} after the name")]
    Option(String),
    /// An option that means nothing on this dialect.
    #[error("{0} has no meaning here; leave it out, or speak in lines")]
    Unfit(&'static str),
    /// The name of notes.
    #[error("{NOTES} is the name of notes, which 'acopio note' sends; say another one")]
    Notes,
    /// What stands for a token's secret is none.
    #[error(transparent)]
    Token(#[from] NotASecret),
    /// More than one token.
    #[error("{TOKEN} is said twice; say one token")]
    TwoTokens,
    /// The name of a group where each message is to have one of its own.
    #[error("{0}/ is the name of a group; say StoreAs for each source of it")]
    Group(SourceName),
}

impl Said {
    /// A source that says nothing but its name.
    #[must_use]
    pub const fn only(name: SourceName) -> Self {
        Self { who: Who::Source(name), quiet: false, cr: false, numbered: false, several: false }
    }

    /// Reads a name and the options behind it.
    ///
    /// # Errors
    /// What is wrong with the first word that is not understood.
    pub fn parse(words: &[u8], dialect: Dialect) -> Result<Self, NotSaid> {
        let mut words = words.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let name = words.next().ok_or_else(|| NotASource::of(b"", Flaw::Empty))?;
        let mut said = Self { who: Who::from_bytes(name)?, quiet: false, cr: false, numbered: false, several: false };
        for word in words {
            said.option(word, dialect)?;
        }
        match said.who {
            Who::Group(name) if dialect == Dialect::Framed => Err(NotSaid::Group(name)),
            Who::Source(name) if name.is_of_notes() => Err(NotSaid::Notes),
            _ => Ok(said),
        }
    }

    /// The one source whose messages it sends.
    #[must_use]
    pub const fn source(&self) -> Option<SourceName> {
        match self.who {
            Who::Source(name) => Some(name),
            Who::Group(_) => None,
        }
    }

    fn option(&mut self, word: &[u8], dialect: Dialect) -> Result<(), NotSaid> {
        let known = [CALLADO, CR, NUMERADO, VARIOS].into_iter().find(|option| option.as_bytes() == word);
        match known {
            None => return Err(NotSaid::Option(quote(shown(word)))),
            Some(option) if dialect == Dialect::Framed && option != VARIOS => return Err(NotSaid::Unfit(option)),
            Some(CR) if dialect == Dialect::Raw => return Err(NotSaid::Unfit(CR)),
            Some(CALLADO) => self.quiet = true,
            Some(CR) => self.cr = true,
            Some(NUMERADO) => self.numbered = true,
            Some(_) => self.several = true,
        }
        Ok(())
    }

    /// What words say that come after a bare `peticion` was answered; none if they are a message. A name begins with a letter
    /// there: numbers with a space in front are readings.
    ///
    /// # Errors
    /// It is certain that they were to be a name: it stands alone and a sign or two in it are wrong, or what is behind it looks
    /// like options.
    pub fn parse_late(words: &[u8]) -> Result<Option<Self>, NotSaid> {
        if !words.first().is_some_and(u8::is_ascii_alphabetic) {
            return Ok(None);
        }
        let error = match Self::parse(words, Dialect::Line) {
            Ok(said) => return Ok(Some(said)),
            Err(error) => error,
        };
        let mut words = words.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        let name = words.next().unwrap_or_default();
        // A reading has an equals sign, a colon, a comma or a brace.
        let is_near_name = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-/@#+~*".contains(byte));
        let are_near_options = words.all(is_near_option);
        if is_near_name && are_near_options { Err(error) } else { Ok(None) }
    }

    /// What the words of a raw client say; none if they are a message.
    ///
    /// # Errors
    /// It is one word, and no name.
    pub fn parse_exact(words: &[u8]) -> Result<Option<Self>, NotSaid> {
        match Self::parse(words, Dialect::Raw) {
            Ok(said) => Ok(Some(said)),
            Err(_) if words.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n')) || words.is_empty() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// A word as it may be shown: what stands behind an equals sign may be a secret whose word has a letter wrong.
fn shown(word: &[u8]) -> &[u8] {
    let end = memchr::memchr(b'=', word).map_or(word.len(), |at| at + 1);
    word.get(..end).unwrap_or(word)
}

/// What a client says when it comes in: of itself, and the secret of its token.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Introduction {
    /// What it says of itself.
    pub said: Option<Said>,
    /// The secret of its token.
    pub token: Option<Secret>,
}

impl Introduction {
    /// What a framed client sends before its first frame; it need not wait for the answer in between.
    #[must_use]
    pub fn to_framed_opening(&self) -> Vec<u8> {
        let said = self.said.map(|said| format!(" {said}")).unwrap_or_default();
        let mut opening = format!("{PETICION} {VERSION}\n{CLIENTE}{said}").into_bytes();
        if let Some(token) = &self.token {
            opening.push(b' ');
            opening.extend_from_slice(TOKEN.as_bytes());
            opening.extend_from_slice(token.expose());
        }
        opening.push(b'\n');
        opening
    }
}

impl Introduction {
    /// Reads a name, its options, and among them a token; or a token alone.
    ///
    /// # Errors
    /// What is wrong with the first word that is not understood.
    pub fn parse(words: &[u8], dialect: Dialect) -> Result<Self, NotSaid> {
        match apart(words) {
            None => Ok(Self { said: Some(Said::parse(words, dialect)?), token: None }),
            Some((rest, token)) => {
                let said = if rest.is_empty() { None } else { Some(Said::parse(&rest, dialect)?) };
                Ok(Self { said, token: Some(token?) })
            }
        }
    }

    /// As [`Said::parse_late`]; who says a token means what it says.
    ///
    /// # Errors
    /// It is certain that they were to be a name, or a token.
    pub fn parse_late(words: &[u8]) -> Result<Option<Self>, NotSaid> {
        match apart(words) {
            Some((_, Ok(_))) => Self::parse(words, Dialect::Line).map(Some),
            _ => Ok(Said::parse_late(words)?.map(|said| Self { said: Some(said), token: None })),
        }
    }

    /// As [`Said::parse_exact`]; who says a token means what it says.
    ///
    /// # Errors
    /// It is one word, and no name; or a token with words that are not understood.
    pub fn parse_exact(words: &[u8]) -> Result<Option<Self>, NotSaid> {
        match apart(words) {
            Some((_, Ok(_))) => Self::parse(words, Dialect::Raw).map(Some),
            _ => Ok(Said::parse_exact(words)?.map(|said| Self { said: Some(said), token: None })),
        }
    }
}

/// The words without the token among them, and that; none if no word is one.
fn apart(words: &[u8]) -> Option<(Vec<u8>, Result<Secret, NotSaid>)> {
    let mut token = None;
    let mut rest: Vec<&[u8]> = Vec::new();
    for word in words.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()) {
        match word.strip_prefix(TOKEN.as_bytes()) {
            None => rest.push(word),
            Some(_) if token.is_some() => token = Some(Err(NotSaid::TwoTokens)),
            Some(secret) => token = Some(Secret::from_bytes(secret).map_err(NotSaid::Token)),
        }
    }
    token.map(|token| (rest.join(&b' '), token))
}

/// Whether a word is an option, or one with a letter too many, too few or wrong.
fn is_near_option(word: &[u8]) -> bool {
    [CALLADO, CR, NUMERADO, VARIOS].iter().any(|option| {
        let (word, option) = (word.to_ascii_lowercase(), option.as_bytes());
        let same = |pair: &(&u8, &u8)| pair.0 == pair.1;
        let before = word.iter().zip(option).take_while(same).count();
        let rest = word.len().min(option.len()) - before;
        let behind = word.iter().rev().zip(option.iter().rev()).take(rest).take_while(same).count();
        let wrong = word.len().max(option.len()) - before - behind;
        // Any two letters are near to `cr`.
        wrong == 0 || (wrong == 1 && option.len() > CR.len())
    })
}

/// Whether these words say that a carriage return ends a line.
pub(super) fn ends_in_cr(words: &[u8]) -> bool {
    words.split(|byte| matches!(byte, b' ' | b'\t')).skip(1).any(|word| word == CR.as_bytes())
}

/// As it is said in a handshake.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = [(self.quiet, CALLADO), (self.cr, CR), (self.numbered, NUMERADO), (self.several, VARIOS)];
        write!(f, "{}", self.who)?;
        options.iter().filter(|(is_set, _)| *is_set).try_for_each(|(_, option)| write!(f, " {option}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::source::tests::{any_name, name};
    use proptest::prelude::*;

    fn parsed(words: &str, dialect: Dialect) -> String {
        Said::parse(words.as_bytes(), dialect).map_or_else(|error| error.to_string(), |said| said.to_string())
    }

    #[test]
    fn a_name_may_have_options_behind_it() {
        for words in
            ["esp7", "taller/horno", "lora/", "plc callado cr", "d numerado varios", "d callado cr numerado varios"]
        {
            assert_eq!(parsed(words, Dialect::Line), words);
        }
        assert_eq!(parsed(" esp7\t varios  callado ", Dialect::Line), "esp7 callado varios");
        assert_eq!(parsed("esp7 varios", Dialect::Framed), "esp7 varios");
        assert_eq!(parsed("esp7 callado", Dialect::Raw), "esp7 callado");
    }

    #[test]
    fn what_is_not_understood_says_what_would_be() {
        assert!(parsed("", Dialect::Line).starts_with("\"\" is not a source's name: it is empty; take 1 to 32"));
        assert!(parsed("esp@7", Dialect::Line).contains("'@' is not in a name"));
        assert!(parsed("/", Dialect::Line).contains("a / stands between"));
        assert!(parsed("a//", Dialect::Line).contains("a / stands between"));
        assert!(parsed(&("x".repeat(31) + "/"), Dialect::Line).contains("it has 33 bytes"), "no room for the rest");
        assert_eq!(
            parsed("esp7 calado", Dialect::Line),
            "\"calado\" is not an option; say callado, cr, numerado or varios after the name"
        );
        assert!(parsed("esp7 cr", Dialect::Raw).starts_with("cr has no meaning here"));
        assert!(parsed("esp7 callado", Dialect::Framed).starts_with("callado has no meaning here"));
        assert!(parsed("lora/", Dialect::Framed).starts_with("lora/ is the name of a group; say StoreAs"));
        assert!(parsed("acopio.notes cr", Dialect::Line).starts_with("acopio.notes is the name of notes"));
    }

    #[test]
    fn what_comes_late_is_a_name_only_if_it_looks_like_one() {
        for (words, said) in [
            ("esp7", Some("esp7")),
            ("esp7 varios", Some("esp7 varios")),
            ("21.5", None),
            ("-3", None),
            ("hola que tal", None),
            ("", None),
        ] {
            let late = Said::parse_late(words.as_bytes()).map(|said| said.map(|said| said.to_string()));
            assert_eq!(late, Ok(said.map(ToOwned::to_owned)), "{words}");
        }
        for words in
            ["esp7 calado", "esp7 CALLADO cr", "esp7 callado varioss", "esp@7", "sala#2 cr", "a//b", "acopio.notes"]
        {
            assert!(Said::parse_late(words.as_bytes()).is_err(), "{words}");
        }
        for words in
            ["temp=21.4", "T:21", "ok!", "esp7 callado 21.4", "no or", "hola varios amigos", "{\"t\":1}", "h,40"]
        {
            assert_eq!(Said::parse_late(words.as_bytes()), Ok(None), "{words}");
        }
        let exact = |words: &str| Said::parse_exact(words.as_bytes()).map(|said| said.map(|said| said.to_string()));
        assert_eq!(exact("esp7"), Ok(Some("esp7".to_owned())));
        assert_eq!(exact("esp7 varios"), Ok(Some("esp7 varios".to_owned())));
        assert_eq!((exact("42 dice hola"), exact("")), (Ok(None), Ok(None)));
        assert!(exact("esp+7").is_err());
    }

    #[test]
    fn a_message_of_a_group_begins_with_the_rest_of_its_sources_name() {
        let group = Who::from_bytes(b"lora/").unwrap();
        let split =
            |message: &'static str| group.split(message.as_bytes()).map(|(source, rest)| (source.to_string(), rest));
        assert_eq!(split("s12 21.4"), Ok(("lora/s12".to_owned(), &b"21.4"[..])));
        assert_eq!(split("s12\t21.4 V"), Ok(("lora/s12".to_owned(), &b"21.4 V"[..])));
        assert_eq!(split("s12"), Ok(("lora/s12".to_owned(), &b""[..])));
        assert_eq!(split("a/b  x"), Ok(("lora/a/b".to_owned(), &b" x"[..])));
        for wrong in ["", " 21.4", "s@12 21.4", "/s 1", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx 1"] {
            assert!(group.split(wrong.as_bytes()).is_err(), "{wrong}");
        }
        let alone = Who::Source(name("esp7"));
        assert_eq!(alone.split(b"a b"), Ok((name("esp7"), &b"a b"[..])));
    }

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn a_token_stands_anywhere_among_the_words_or_alone() {
        let token = Some(SECRET.parse().unwrap());
        let word = format!("token={SECRET}");
        for words in [format!("esp7 varios {word}"), format!("{word} esp7 varios"), format!(" esp7  {word}\tvarios")] {
            let said = Introduction::parse(words.as_bytes(), Dialect::Framed).unwrap();
            assert_eq!((said.said.unwrap().to_string().as_str(), said.token), ("esp7 varios", token), "{words}");
        }
        for dialect in [Dialect::Line, Dialect::Raw, Dialect::Framed] {
            assert_eq!(Introduction::parse(word.as_bytes(), dialect), Ok(Introduction { said: None, token }));
        }
        let late = Introduction { said: None, token };
        assert_eq!(Introduction::parse_late(word.as_bytes()), Ok(Some(late)));
        assert_eq!(Introduction::parse_exact(word.as_bytes()), Ok(Some(late)));
        assert_eq!(Introduction::parse_late(b"token=21.5 V"), Ok(None), "a reading");
        assert!(Introduction::parse_exact(format!("esp@7 {word}").as_bytes()).is_err(), "no message has a token in it");
    }

    #[test]
    fn no_error_shows_a_secret() {
        for words in [
            format!("esp7 token={SECRET} calado"),
            format!("esp7 tokn={SECRET}"),
            format!("esp7 TOKEN={SECRET}"),
            format!("token={SECRET} token={SECRET}"),
            format!("esp7 token={SECRET}0"),
            format!("Token={SECRET}"),
            format!("tokn={SECRET}"),
            format!("esp+7,token={SECRET}"),
            format!("esp7 {SECRET}"),
            format!("esp7 token= {SECRET}"),
            format!("token {SECRET}"),
            format!("esp7 numerado {SECRET}"),
        ] {
            for error in [Dialect::Line, Dialect::Framed, Dialect::Raw]
                .map(|dialect| Introduction::parse(words.as_bytes(), dialect).unwrap_err())
            {
                assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_said_with_a_token_is_understood(name in any_name(), bytes: [u8; 16], alone: bool, several: bool) {
            let said = Said { several, ..Said::only(name) };
            let introduction = Introduction { said: (!alone).then_some(said), token: Some(Secret::from_random(bytes)) };
            let opening = introduction.to_framed_opening();
            let words = opening.strip_prefix(b"peticion acopio/2\ncliente ").unwrap().strip_suffix(b"\n").unwrap();
            prop_assert_eq!(Introduction::parse(words, Dialect::Framed), Ok(introduction));
        }

        #[test]
        fn any_words_with_a_token_are_understood_or_refused(
            before in prop::collection::vec(any::<u8>(), 0..20), after in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let words = [&before, format!(" token={SECRET} ").as_bytes(), &after].concat();
            for dialect in [Dialect::Line, Dialect::Raw, Dialect::Framed] {
                match Introduction::parse(&words, dialect) {
                    Ok(introduction) => prop_assert!(introduction.token.is_some()),
                    Err(error) => prop_assert!(!error.to_string().contains(SECRET)),
                }
            }
        }

        #[test]
        fn what_is_said_is_understood(
            name in any_name(), group: bool, quiet: bool, cr: bool, numbered: bool, several: bool,
        ) {
            let who = if group { Who::Group(name) } else { Who::Source(name) };
            let said = Said { who, quiet, cr, numbered, several };
            let room = !group || name.as_bytes().len() <= 30;
            prop_assert_eq!(Said::parse(said.to_string().as_bytes(), Dialect::Line).ok(), room.then_some(said));
        }

        #[test]
        fn any_words_are_understood_or_refused(words in prop::collection::vec(any::<u8>(), 0..60)) {
            for dialect in [Dialect::Line, Dialect::Raw, Dialect::Framed] {
                if let Ok(said) = Said::parse(&words, dialect) {
                    prop_assert_eq!(Said::parse(said.to_string().as_bytes(), dialect), Ok(said));
                }
            }
        }
    }
}
