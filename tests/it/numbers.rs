//! The commands that read numbers, against a whole cluster: a curve, what is due, corrections, and alarms.

use std::fs;
use std::io::BufRead;
use std::process::Command;
use std::time::Duration;

use crate::common::{Head, Process, Signal, acopio, eventually, ran};

fn command(name: &str, head: &str, more: &[&str]) -> Command {
    let mut command = acopio();
    command.args([name, "--head", head]).args(more);
    command
}

#[test]
fn a_wrong_reading_is_corrected_and_the_record_stays() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let at = head.at();
    assert_eq!(head.nc(b"peticion\ntemp=21 n=1\ntemp=85 n=2\ntemp=23 n=4\n").matches("recibido").count(), 3);
    let all = ran(command("read", &at, &["--format", "line"])).1;
    let ids: Vec<&str> = all.lines().map(|line| &line[..20]).collect();
    let temps = |wanted: &str| {
        let (code, out, err) = ran(command("read", &at, &["--fields", "temp", "--format", "csv"]));
        assert_eq!(code, Some(0), "{err}");
        assert!(err.contains(wanted), "{err}");
        out.lines().skip(1).map(|line| line.rsplit(',').next().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(temps(""), "21 85 23");
    let note = |more: &[&str]| ran(command("note", &at, &[&[ids[1], "--why", "unplugged"], more].concat()));
    let (code, out, err) = note(&["--hide"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains(": temp=85 n=2 now says nothing\nnoted as "), "{out}");
    assert_eq!(temps("1 messages are left out, as notes say"), "21 23");
    let (code, out, err) = note(&["--set", "temp=22,n=3"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("now says temp=22 n=3\n"), "{out}");
    assert_eq!(temps("1 messages are corrected, as notes say"), "21 22 23");
    assert_eq!(note(&["--undo"]).0, Some(0));
    assert_eq!(temps(""), "21 85 23");
    let (code, out, _) = ran(command("read", &at, &["--grep", "^acopio note", "--format", "text"]));
    assert_eq!((code, out.matches("acopio.notes: acopio note {").count()), (Some(0), 3), "{out}");
    assert!(ran(command("read", &at, &["--format", "line"])).1.starts_with(&all), "nothing is changed");
    let (code, _, err) = ran(command("note", &at, &["1795234260----0----6", "--hide", "--why", "x"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("no record has the id 1795234260----0----6"), "{err}");
    assert_eq!(note(&[]).0, Some(2));
    let (code, _, err) = note(&["--set", "temp=NaN"]);
    assert!(code == Some(2) && err.contains("NaN is no number that counts"), "{err}");
    let (code, _, err) = note(&["--set", "temp=21.6.5"]);
    assert!(code == Some(1) && err.contains("temp is a number in this record, and \"21.6.5\" is none"), "{err}");
    let notes = ran(command("read", &at, &["--from", "acopio.notes", "--format", "line"])).1;
    assert_eq!(notes.lines().count(), 3);
    let (code, out, err) = ran(command("note", &at, &[&notes[..20], "--hide", "--why", "x"]));
    assert!(
        code == Some(1) && out.is_empty() && err.contains("is a note itself; name the record that it is of"),
        "{err}"
    );
    // The check counts what came, by the device's own numbers.
    let (code, out, err) = ran(command("check", &at, &[]));
    assert_eq!(code, Some(1), "one is missing: {err}");
    let line: Vec<&str> = out.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(line[..6], ["(no", "name)", "4", "3", "1", "0"], "{out}");
    let (code, out, err) = ran(command("plot", &at, &["temp", "--every", "1s"]));
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("temp: median of each 1s, 3 values") && out.contains('*'), "{out}");
    let (code, _, err) = ran(command("plot", &at, &["presion"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("no message of that time has a number presion"), "{err}");
}

#[test]
fn who_is_silent_comes_back_or_leaves_its_range_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut device = head.line();
    device.ask("temp=21");
    let told = dir.path().join("told");
    let exec = format!("echo \"$ACOPIO_EVENT $ACOPIO_FIELD $ACOPIO_VALUE\" >> {}", told.display());
    let more = ["--silent", "500ms", "--out", "temp:5..45", "--exec", &exec];
    let mut watch = Process::start(command("watch", &head.at(), &more));
    let mut out = watch.stdout().lines();
    let mut next = || out.next().unwrap().unwrap().split_once("Z  ").unwrap().1.to_owned();
    assert!(next().starts_with("(no name) is silent for "));
    device.ask("temp=85");
    assert!(next().starts_with("(no name) is back after "));
    assert_eq!(next(), "(no name): temp is 85, out of its range");
    assert!(next().starts_with("(no name) is silent for "));
    device.ask("temp=22");
    assert!(next().starts_with("(no name) is back after "));
    assert_eq!(next(), "(no name): temp is 22, in its range again");
    watch.signal(Signal::INT);
    assert_eq!(watch.wait().code(), Some(0));
    let mut told: Vec<String> = fs::read_to_string(told).unwrap().lines().map(|line| line.trim().to_owned()).collect();
    told.sort();
    // It may fall silent once more before the signal comes.
    assert!(
        told.starts_with(&["back", "back", "in temp 22", "out temp 85", "silent", "silent"].map(str::to_owned)),
        "{told:?}"
    );
    let once = |more: &[&str]| ran(command("watch", &head.at(), &[&["--once"], more].concat()));
    let (code, out, err) = once(&["--silent", "1h", "--out", "temp:5..20", "--format", "json"]);
    assert_eq!(code, Some(1), "{err}");
    let event: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&event["event"], &event["field"]), (&"out".into(), &"temp".into()));
    assert_eq!(once(&["--silent", "1h"]).0, Some(0));
}

#[test]
fn a_command_that_never_ends_holds_up_neither_the_watch_nor_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut device = head.line();
    let pid = dir.path().join("pid");
    let exec = format!("sleep 1000 & echo $! >> {}; wait", pid.display());
    let mut watch =
        Process::start(command("watch", &head.at(), &["--silent", "1h", "--out", "temp:5..45", "--exec", &exec]));
    let mut out = watch.stdout().lines();
    for value in [85, 21, 86] {
        device.ask(&format!("temp={value}"));
        assert!(out.next().unwrap().unwrap().contains(&format!("temp is {value}")));
    }
    let pids = eventually("the commands run", || {
        let text = fs::read_to_string(&pid).ok()?;
        (text.lines().count() == 3).then(|| text.lines().map(str::to_owned).collect::<Vec<_>>())
    });
    watch.signal(Signal::INT);
    assert_eq!(watch.wait().code(), Some(0));
    for pid in pids {
        eventually("what the command started is gone", || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            (state.is_empty() || state.contains(") Z ")).then_some(())
        });
    }
}

#[test]
fn who_said_nothing_in_the_time_that_is_looked_at_is_told_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let mut gone = head.named("gone");
    for k in 0..5 {
        assert!(gone.ask(&format!("temp={k}")).ends_with("recibido"));
        std::thread::sleep(Duration::from_millis(50));
    }
    let since = humantime::format_rfc3339_nanos(std::time::SystemTime::now()).to_string();
    let mut here = head.named("here");
    assert!(here.ask("temp=85").ends_with("recibido"));
    eventually("it is silent", || {
        let report = ran(command("devices", &head.at(), &["--silent", "--format", "json"])).1;
        report.contains("\"gone\"").then_some(())
    });
    let (code, out, err) = ran(command("watch", &head.at(), &["--once", "--since", &since]));
    assert_eq!(code, Some(1), "{err}");
    assert!(
        out.contains("  gone is silent for ") && out.contains(", and speaks every ") && !out.contains("here"),
        "{out}"
    );
    let (code, out, err) = ran(command("check", &head.at(), &["--since", &since, "--format", "json"]));
    assert_eq!(code, Some(1), "{err}");
    let lines: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&lines[0]["source"], &lines[0]["kept"]), (&"gone".into(), &0.into()), "{out}");
    assert!(lines[0]["missing"].as_u64() > Some(0) && lines[1]["missing"] == 0, "{out}");
    let more = ["--once", "--since", &since, "--out", "nope:5..6", "--from", "here"];
    let (code, _, err) = ran(command("watch", &head.at(), &more));
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(err, "acopio: no message in this time has a field nope; there are: temp\n");
    // What is hidden is out of no range, and was heard.
    let watch = |more: &[&str]| ran(command("watch", &head.at(), &[&["--once", "--from", "here"], more].concat()));
    assert_eq!(watch(&["--out", "temp:5..45"]).0, Some(1));
    let id = ran(command("read", &head.at(), &["--from", "here", "--format", "line"])).1[..20].to_owned();
    assert_eq!(ran(command("note", &head.at(), &[&id, "--set", "temp=21", "--why", "x"])).0, Some(0));
    let (code, out, err) = watch(&["--out", "temp:5..45"]);
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
    let (_, out, err) = ran(command("devices", &head.at(), &["--mean", "temp", "--from", "here"]));
    assert!(out.lines().nth(1).unwrap().ends_with("  21"), "{out}");
    assert!(err.contains("1 messages are corrected"), "{err}");
    let (code, out, _) = ran(command("status", &head.at(), &[]));
    assert!(code == Some(0) && out.contains("\ndevices    2 known, 2 here, 1 silent (gone "), "{out}");
}

#[test]
fn who_follows_gets_a_bucket_when_its_time_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    let more = ["--follow", "--every", "1s", "--fields", "temp", "--format", "csv"];
    let mut read = Process::start(command("read", &head.at(), &more));
    let mut out = read.stdout().lines();
    assert_eq!(out.next().unwrap().unwrap(), "time,temp");
    assert!(head.named("esp7").ask("temp=21.5").ends_with("recibido"));
    // Nothing comes behind it.
    assert!(out.next().unwrap().unwrap().ends_with("Z,21.5"));
    read.signal(Signal::INT);
    assert_eq!(read.wait().code(), Some(0));
}

#[test]
fn a_time_has_one_meaning_wherever_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    assert!(head.line().ask("temp=21").ends_with("recibido"));
    for more in [&["--since", "1M"][..], &["--every", "1M", "--fields", "temp"], &["--since", "hace 1 M"]] {
        let (code, _, err) = ran(command("read", &head.at(), more));
        assert!(code == Some(2) && err.contains("M may mean minutes or months"), "{more:?}: {err}");
    }
    for (since, count) in [("9999-12-31", "0\n"), ("2400-01-01", "0\n"), ("1m", "1\n"), ("1month", "1\n")] {
        let (code, out, err) = ran(command("read", &head.at(), &["--since", since, "--count"]));
        assert_eq!((code, out.as_str()), (Some(0), count), "{since}: {err}");
    }
    let (_, out, _) = ran(command("read", &head.at(), &["--until", "9999-12-31", "--count"]));
    assert_eq!(out, "1\n");
}
