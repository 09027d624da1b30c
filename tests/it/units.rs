//! The units under `systemd/`: systemd understands them, their sandbox leaves little open, and acopio takes their flags.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::common::{acopio, ran};

/// What systemd's own measure may say of a unit, in tenths: it runs from 0 to 100.
const EXPOSURE_MAX: &str = "15";

fn units() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd");
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn systemd_takes_the_units_and_finds_little_that_is_open() {
    let (dir, units) = (tempfile::tempdir().unwrap(), units());
    assert_eq!(units.len(), 3);
    for unit in units {
        let text = fs::read_to_string(&unit).unwrap();
        let program = acopio().get_program().to_str().unwrap().to_owned();
        let copy = dir.path().join(unit.file_name().unwrap());
        fs::write(&copy, text.replace("/usr/local/bin/acopio", &program)).unwrap();
        let analyze = |words: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            command.args(words).arg(&copy);
            ran(command)
        };
        let (code, out, err) = analyze(&["verify", "--man=no"]);
        assert!(code == Some(0) && err.is_empty(), "{}: {out}{err}", unit.display());
        let (code, out, err) = analyze(&["security", "--offline=yes", "--threshold", EXPOSURE_MAX]);
        assert_eq!(code, Some(0), "{}: {out}{err}", unit.display());
    }
}

#[test]
fn acopio_takes_what_the_units_say() {
    for unit in units() {
        let text = fs::read_to_string(&unit).unwrap();
        let start = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let mut command = acopio();
        // An unknown flag before it is told in place of the help.
        command.args(start.replace("%i", "data1").split_whitespace().skip(1)).arg("--help");
        let (code, out, err) = ran(command);
        assert!(code == Some(0) && out.contains("Usage:"), "{}: {err}", unit.display());
    }
}
