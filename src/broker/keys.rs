//! Files of CURVE keys, in the form of ZeroMQ's certificates, so that its other tools read and write them too: `NAME.key`
//! with the public key, for everybody, and `NAME.key_secret` with both, for the broker alone.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::zmq::{Keys, PublicKey};
use crate::{files, limits};

/// The name of the files that [`create`] makes.
const NAME: &str = "broker";

/// A file of keys can't be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The system refuses.
    #[error("{}: {source}; {remedy}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        remedy: &'static str,
    },
    /// There is no such key in it.
    #[error("{}: no {key} in it; make a pair with `acopio broker keys DIR`", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
        /// The key's name.
        key: &'static str,
    },
}

/// The files of a new pair of keys.
#[derive(Debug)]
pub(crate) struct Files {
    /// The public key, for who connects.
    pub(crate) public: PathBuf,
    /// Both keys, for the brokers.
    pub(crate) secret: PathBuf,
}

/// Makes a pair of keys in a folder, and overwrites none.
///
/// # Errors
/// The folder can't be written, or has keys.
pub(crate) fn create(dir: &Path) -> Result<Files, Error> {
    let keys = Keys::generate();
    let files = Files { public: dir.join(format!("{NAME}.key")), secret: dir.join(format!("{NAME}.key_secret")) };
    files::create_folder(dir).map_err(|source| refused(dir, source, "name another folder"))?;
    let public = format!("    public-key = \"{}\"\n", keys.public().z85());
    let head = "# CURVE keys of acopio broker, in the form of ZeroMQ's certificates.\n";
    let secret = format!(
        "{head}# Secret: for the brokers alone.\nmetadata\ncurve\n{public}    secret-key = \"{}\"\n",
        keys.secret_z85()
    );
    write_new(&files.secret, 0o600, &secret)?;
    let public =
        write_new(&files.public, 0o644, &format!("{head}# Public: for who connects.\nmetadata\ncurve\n{public}"));
    if public.is_err() {
        // It would be the half of no pair.
        drop(std::fs::remove_file(&files.secret));
    }
    public.map(|()| files)
}

fn write_new(path: &Path, mode: u32, text: &str) -> Result<(), Error> {
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| refused(path, source, "keys are never overwritten: name another folder"))
}

/// The keys of a broker: from a file that has the secret one.
///
/// # Errors
/// It can't be read, or has none.
pub(crate) fn secret(path: &Path) -> Result<Keys, Error> {
    let key = "secret-key";
    let keys = value(&read(path)?, key).and_then(|text| Keys::from_z85(&text));
    keys.ok_or_else(|| Error::NoKey { path: path.to_owned(), key })
}

/// The public key of a broker, from either file.
///
/// # Errors
/// It can't be read, or has none.
pub(crate) fn public(path: &Path) -> Result<PublicKey, Error> {
    let key = "public-key";
    let public = value(&read(path)?, key).and_then(|text| PublicKey::from_z85(&text));
    public.ok_or_else(|| Error::NoKey { path: path.to_owned(), key })
}

fn read(path: &Path) -> Result<String, Error> {
    use std::io::Read as _;
    let mut text = String::new();
    let file =
        std::fs::File::open(path).and_then(|file| file.take(limits::KEY_FILE_BYTES_MAX).read_to_string(&mut text));
    file.map_err(|source| refused(path, source, "name a file of keys, as `acopio broker keys DIR` makes them"))?;
    Ok(text)
}

fn refused(path: &Path, source: std::io::Error, remedy: &'static str) -> Error {
    Error::File { path: path.to_owned(), source, remedy }
}

/// The value in `KEY = "VALUE"`.
fn value(text: &str, key: &str) -> Option<String> {
    let line = text.lines().map(str::trim).filter_map(|line| line.strip_prefix(key)).next()?;
    Some(line.trim().strip_prefix('=')?.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_read_back_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let files = create(&dir.path().join("keys")).unwrap();
        let keys = secret(&files.secret).unwrap();
        for file in [&files.public, &files.secret] {
            assert_eq!(public(file).unwrap().z85(), keys.public().z85());
        }
        assert_eq!(std::fs::metadata(&files.secret).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!std::fs::read_to_string(&files.public).unwrap().contains(&keys.secret_z85()));
        assert!(secret(&files.public).unwrap_err().to_string().contains("no secret-key in it"));
        assert!(create(&dir.path().join("keys")).unwrap_err().to_string().contains("never overwritten"));
        std::fs::remove_file(&files.secret).unwrap();
        assert!(create(&dir.path().join("keys")).unwrap_err().to_string().contains("broker.key: "));
        assert!(!files.secret.exists(), "a secret key beside the public one of another pair");
        assert!(public(&dir.path().join("none")).unwrap_err().to_string().contains("name a file of keys"));
    }
}
