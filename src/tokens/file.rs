//! The file of tokens on disk: it is for its user alone, and written whole or not at all.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Token, Tokens, Until};
use crate::files::{self, Unread};
use crate::limits;
use crate::reload::WrongLine;

/// What stands above the tokens in a new file.
const TITLE: &str =
    "# Tokens of clients of an acopio head. Secrets are not in here, only their hashes; see 'acopio token --help'.\n";

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system's word.
    #[error("cannot {doing} the tokens in {}: {source}; {}", path.display(), remedy(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// Everybody can read or change it.
    #[error("the tokens in {} are open to everybody (mode {mode:03o}); chmod 600 the file", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// It is too long.
    #[error("{} has more than {} bytes; revoke tokens that nobody has", path.display(), limits::TOKENS_BYTES_MAX)]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// A token of this name is there.
    #[error("there is a token {name} in {}; take another name, or revoke it first", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A token of this name is not there.
    #[error("there is no token {name} in {}; 'acopio token list' shows which there are", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// The line would not be read.
    #[error("the token can't be made: {0}")]
    Line(WrongLine),
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "make one with 'acopio token new'",
        io::ErrorKind::PermissionDenied => "run acopio as the user that it belongs to",
        io::ErrorKind::InvalidInput => "a file of tokens is a plain file",
        _ => "look at its folder and its disk",
    }
}

/// Reads the file.
///
/// # Errors
/// It can't be read, or is open to everybody.
pub(crate) fn read(path: &Path) -> Result<(Tokens, Vec<WrongLine>), Error> {
    text(path).map(|text| Tokens::parse(&text))
}

fn text(path: &Path) -> Result<String, Error> {
    let text = files::read_secret(path, limits::TOKENS_BYTES_MAX).map_err(|unread| match unread {
        Unread::Io(source) => Error::Io { doing: "read", path: path.to_owned(), source },
        Unread::Open(mode) => Error::Open { path: path.to_owned(), mode },
    })?;
    if text.len() as u64 > limits::TOKENS_BYTES_MAX {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Adds a token; makes the file if it is missing.
///
/// # Errors
/// There is one of this name, or the file can't be read or written: then it is as it was.
pub(crate) fn add(path: &Path, token: &Token) -> Result<(), Error> {
    let (_lock, text) = match lock(path) {
        Ok(file) => (Some(file), text(path)?),
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => (None, TITLE.to_owned()),
        Err(error) => return Err(error),
    };
    if names(&text).any(|(name, _)| name == token.name) {
        return Err(Error::Exists { path: path.to_owned(), name: token.name.clone() });
    }
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    let after = format!("{text}{newline}{token}\n");
    let (tokens, wrong) = Tokens::parse(&after);
    if !tokens.iter().any(|other| other == token) {
        return Err(wrong.into_iter().next_back().map_or(Error::TooLong { path: path.to_owned() }, Error::Line));
    }
    write(path, &after)
}

/// Takes a token out. A certificate without a line may write and read: so that of a certificate is replaced by one that keeps it
/// out from now on, and there is one afterwards for a certificate that had none.
///
/// # Errors
/// There is none of this name, or the file can't be read or written: then it is as it was.
pub(crate) fn revoke(path: &Path, name: &str, is_certificate: bool, now: SystemTime) -> Result<(), Error> {
    let _lock = lock(path)?;
    let text = text(path)?;
    let is_of_certificate = |line: &str| {
        line.split('#').next().unwrap_or_default().split_ascii_whitespace().any(|word| word == "certificate")
    };
    let has_line = names(&text).any(|(other, _)| other == name);
    let shuts = is_certificate || names(&text).any(|(other, line)| other == name && is_of_certificate(line));
    if !has_line && !shuts {
        return Err(Error::Unknown { path: path.to_owned(), name: name.to_owned() });
    }
    let mut left: String = names(&text).filter(|(other, _)| *other != name).map(|(_, line)| line).collect();
    if shuts {
        let newline = if left.is_empty() || left.ends_with('\n') { "" } else { "\n" };
        left += &format!("{newline}{}\n", Token::shutting(name, Until::of(now)));
    }
    write(path, &left)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    files::replace_secret(path, text).map_err(|source| Error::Io { doing: "write", path: path.to_owned(), source })
}

/// Each line, and the name that it begins with; none for remarks.
fn names(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split_inclusive('\n').map(|line| {
        let name = line.split('#').next().unwrap_or_default().split_ascii_whitespace().next().unwrap_or_default();
        (name, line)
    })
}

/// Keeps other commands from changing the file at the same time.
fn lock(path: &Path) -> Result<File, Error> {
    let io = |source| Error::Io { doing: "read", path: path.to_owned(), source };
    loop {
        let file = files::read(path).map_err(io)?;
        file.lock().map_err(io)?;
        // Whoever had it may have put another file in its place.
        let (held, there) = (file.metadata().map_err(io)?, std::fs::metadata(path).map_err(io)?);
        if (held.dev(), held.ino()) == (there.dev(), there.ino()) {
            return Ok(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn token(line: &str) -> Token {
        Tokens::parse(line).0.iter().next().unwrap().clone()
    }

    #[test]
    fn tokens_are_added_and_taken_out_and_all_else_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens.txt");
        let (a, b) = (token("a from=10.0.0.1 roles=write"), token("b from=10.0.0.2 roles=read"));
        add(&path, &a).unwrap();
        assert_eq!(path.metadata().unwrap().mode() & 0o777, files::SECRET_MODE);
        let text = std::fs::read_to_string(&path).unwrap() + "  # the second\nwrong line";
        std::fs::write(&path, &text).unwrap();
        add(&path, &b).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{text}\n{b}\n"));
        assert!(matches!(add(&path, &b), Err(Error::Exists { .. })));
        let error = add(&path, &token("c from=10.0.0.1/32 roles=read")).unwrap_err().to_string();
        assert!(error.contains("the same addresses"), "{error}");
        let remove = |name, is_certificate| revoke(&path, name, is_certificate, SystemTime::UNIX_EPOCH);
        remove("a", false).unwrap();
        assert!(matches!(remove("a", false), Err(Error::Unknown { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{TITLE}  # the second\nwrong line\n{b}\n"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
        // Of certificates a line stays, or they would be let in as those that have none.
        add(&path, &token("c certificate roles=read")).unwrap();
        for (name, is_certificate) in [("c", false), ("c", false), ("d", true)] {
            remove(name, is_certificate).unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            let line = format!("\n{name} certificate roles=write,read until=1970-01-01T00:00:00Z\n");
            assert!(text.ends_with(&line) && names(&text).filter(|(other, _)| *other == name).count() == 1, "{text}");
            let token = read(&path).unwrap().0.of_certificate(name).unwrap();
            assert!(token.is_over(SystemTime::UNIX_EPOCH));
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(read(&path), Err(Error::Open { mode: 0o644, .. })));
        let missing = read(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("make one with 'acopio token new'"), "{missing}");
    }
}
