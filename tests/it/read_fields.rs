//! `acopio read` with the numbers of payloads: columns, buckets, formats for other programs, folders without a cluster, and a
//! read that goes on where it stopped.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, Read as _};
use std::path::Path;
use std::process::Command;

use crate::common::{Head, Process, Signal, acopio, ran};
use crate::fake_head::{FakeHead, id, line};
use acopio::wire::id::ClientId;
use bytes::Bytes;

const ANA: ClientId = ClientId::of_connection(5);

fn read(more: &[&str]) -> Command {
    let mut command = acopio();
    command.arg("read").args(more);
    command
}

/// What it prints, if all goes well and nothing is said.
fn printed(more: &[&str]) -> String {
    let (code, out, err) = ran(read(more));
    assert_eq!((code, err.as_str()), (Some(0), ""), "{more:?}: {out}");
    out
}

/// A folder with these payloads, a message each ten seconds from 20:26:40 on.
fn folder(dir: &Path, payloads: &[&str]) -> String {
    let lines: Vec<Bytes> =
        (0..).zip(payloads).map(|(k, payload)| line(k * 10_000, ANA, k + 1, payload.as_bytes())).collect();
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("data.txt"), lines.concat()).unwrap();
    dir.display().to_string()
}

const PAYLOADS: [&str; 6] = [
    "mensaje: temp=21.5C hum=40",
    "{\"temp\":85,\"hum\":41}",
    "mensaje: hola mundo",
    "temp=22,5",
    "hum: 43 %",
    "temp=21 ts=1779999900",
];

#[test]
fn fields_are_columns_or_lines() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("a"), &PAYLOADS);
    let (code, out, err) = ran(read(&["--dir", &data, "--fields", "temp,hum"]));
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(
        out,
        "time                      source  temp  hum\n\
         2026-05-28T20:26:40.000Z  -       21.5   40\n\
         2026-05-28T20:26:50.000Z  -         85   41\n\
         2026-05-28T20:27:10.000Z  -       22.5    -\n\
         2026-05-28T20:27:20.000Z  -          -   43\n\
         2026-05-28T20:25:00.000Z  -         21    -\n"
    );
    assert_eq!(err, "acopio: 1 messages have no field temp or hum\n");
    let long = printed(&["--dir", &data, "--long", "--until", &id(15_000).to_string()]);
    assert_eq!(
        long,
        "time                      source  field  value  unit\n\
         2026-05-28T20:26:40.000Z  -       temp    21.5  C\n\
         2026-05-28T20:26:40.000Z  -       hum       40  -\n\
         2026-05-28T20:26:50.000Z  -       temp      85  -\n\
         2026-05-28T20:26:50.000Z  -       hum       41  -\n"
    );
    let (after, until) = (id(30_000).to_string(), id(45_000).to_string());
    let one = ["--dir", &data, "--fields", "hum", "--format", "json", "--after", &after, "--until", &until];
    let json = printed(&one);
    assert_eq!(json.lines().count(), 1);
    let object: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&object["hum"], &object["id"]), (&43.0.into(), &id(40_000).to_string().into()));
    let (_, out, err) = ran(read(&["--dir", &data, "--fields", "presion"]));
    assert_eq!(out.lines().count(), 1);
    assert_eq!(err, "acopio: no message has a field presion; there are: hum, temp\n");
}

#[test]
fn excel_gets_what_it_opens_and_influx_what_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("a"), &PAYLOADS[..2]);
    let comma = printed(&["--dir", &data, "--fields", "temp", "--excel"]);
    let one = format!("\u{feff}id;time;source;temp\r\n{};2026-05-28 20:26:40;;21,5\r\n", id(0));
    assert!(comma.starts_with(&one), "{comma}");
    let point = printed(&["--dir", &data, "--excel=point", "--last", "1"]);
    assert_eq!(
        point,
        format!(
            "\u{feff}id,time,client,seq,ledger,source,text,base64\r\n{},2026-05-28 20:26:50,'{ANA},2,,,\"{{\"\"temp\"\":85,\"\"hum\"\":41}}\",\r\n",
            id(10_000)
        )
    );
    let influx = printed(&["--dir", &data, "--format", "influx", "--fields", "temp"]);
    assert_eq!(influx, "acopio temp=21.5 1780000000000000000\nacopio temp=85 1780000010000000000\n");
}

#[test]
fn buckets_show_what_is_empty_and_a_backlog_where_it_belongs() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("a"), &PAYLOADS);
    let every = |more: &[&str]| printed(&[&["--dir", data.as_str(), "--every", "1m"], more].concat());
    assert_eq!(
        every(&["--median"]),
        "time                      field  median\n\
         2026-05-28T20:25:00.000Z  hum         -\n\
         2026-05-28T20:25:00.000Z  temp       21\n\
         2026-05-28T20:26:00.000Z  hum      40.5\n\
         2026-05-28T20:26:00.000Z  temp    53.25\n\
         2026-05-28T20:27:00.000Z  hum        43\n\
         2026-05-28T20:27:00.000Z  temp     22.5\n"
    );
    let (_, out, _) =
        ran(read(&["--dir", &data, "--every", "1m", "--last", "--fields", "temp,hum", "--format", "csv"]));
    assert_eq!(
        out,
        "time,temp,hum\r\n2026-05-28T20:25:00.000000Z,21,\r\n2026-05-28T20:26:00.000000Z,85,41\r\n\
         2026-05-28T20:27:00.000000Z,22.5,43\r\n"
    );
    let counts = every(&["--count", "--by", "device"]);
    let words: Vec<Vec<&str>> = counts.lines().skip(1).map(|line| line.split_whitespace().skip(1).collect()).collect();
    assert_eq!(words, [["messages", "1"], ["messages", "2"], ["messages", "3"]]);
}

#[test]
fn rules_and_the_time_of_the_place_are_heeded() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("a"), &["norte;21,5;7"]);
    let rules = dir.path().join("campos.txt");
    fs::write(&rules, "esp7 temp\n*: nombre temp °C n\n").unwrap();
    let mut command =
        read(&["--dir", &data, "--rules", rules.to_str().unwrap(), "--fields", "nombre,temp,n", "--local"]);
    command.env("TZ", "<-03>3");
    let (code, out, err) = ran(command);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.ends_with("\n2026-05-28T17:26:40.000-03:00  -        norte  21.5  7\n"), "{out}");
    assert!(err.contains("campos.txt, line 1: no rule; write") && err.ends_with("the other lines hold\n"), "{err}");
    let (code, _, err) = ran(read(&["--dir", &data, "--rules", "/nowhere/campos.txt"]));
    assert_eq!(code, Some(1));
    assert!(err.starts_with("acopio: cannot read the rules in /nowhere/campos.txt"), "{err}");
}

#[test]
fn folders_are_read_without_a_cluster_and_doubles_come_once() {
    let dir = tempfile::tempdir().unwrap();
    folder(&dir.path().join("a"), &PAYLOADS);
    folder(&dir.path().join("b"), &PAYLOADS[..3]);
    let around = dir.path().display().to_string();
    assert_eq!(printed(&["--dir", &around, "--count"]), "6\n");
    assert_eq!(printed(&["--dir", &around, "--last", "2", "--format", "raw"]), "hum: 43 %\ntemp=21 ts=1779999900\n");
    let text = fs::read_to_string(dir.path().join("b/data.txt")).unwrap().replace("21.5C", "21.6C");
    fs::write(dir.path().join("b/data.txt"), text).unwrap();
    let (code, out, err) = ran(read(&["--dir", &around, "--count"]));
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains("/b is there and cannot give all that it keeps: 1 damaged lines"), "{err}");
    let (code, out, err) = ran(read(&["--dir", &around, "--count", "--partial"]));
    assert_eq!((code, out.as_str()), (Some(0), "6\n"), "{err}");
    let (code, _, err) = ran(read(&["--dir", "/nowhere"]));
    assert_eq!(code, Some(1));
    assert!(err.contains("cannot read /nowhere"), "{err}");
}

#[test]
fn a_read_goes_on_where_the_last_one_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("a");
    let state = dir.path().join("state").display().to_string();
    let go_on = |payloads: &[&str]| {
        printed(&[
            "--dir",
            &folder(&data, payloads),
            "--state",
            &state,
            "--format",
            "raw",
            "--until",
            &id(90_000).to_string(),
        ])
    };
    assert_eq!(go_on(&PAYLOADS[..1]), "mensaje: temp=21.5C hum=40\n");
    // The end of that read is the time up to which it was complete: here the end that was asked for.
    assert_eq!(go_on(&PAYLOADS[..3]), "");
    fs::remove_file(&state).unwrap();
    let (head, asked) = FakeHead::new().serve(vec![line(1000, ANA, 1, b"uno"), line(2000, ANA, 2, b"dos")]);
    let once = |until: u64| {
        printed(&["--head", &head, "--state", &state, "--format", "raw", "--until", &id(until).to_string()])
    };
    assert_eq!([once(1500), once(1500), once(3000), once(3000)], ["uno\n", "", "dos\n", ""]);
    assert_eq!(asked.lock().unwrap().len(), 4);
    fs::write(&state, "hola").unwrap();
    let (code, _, err) = ran(read(&["--head", &head, "--state", &state]));
    assert_eq!(code, Some(1));
    assert!(err.contains("does not say where a read stopped"), "{err}");
}

#[test]
fn a_read_that_follows_and_is_told_to_end_finishes_its_look_so_that_nothing_comes_twice() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::start(dir.path(), &[]);
    let _node = head.node(dir.path(), 1, &[]);
    // More than a pipe holds, so that the look is under way until it is read.
    let lines: Vec<String> = (0..5000).map(|k| format!("linea {k} {}", "x".repeat(60))).collect();
    let file = dir.path().join("lines");
    fs::write(&file, lines.join("\n")).unwrap();
    let mut send = acopio();
    send.args(["send", "--head", &head.at(), "--file"]).arg(&file);
    assert_eq!(ran(send).0, Some(0));
    let state = dir.path().join("state").display().to_string();
    let more = ["--head", &head.at(), "--state", &state, "--format", "raw", "--follow"];
    let mut first = Process::start(read(&more));
    let mut out = first.stdout();
    let mut printed = String::new();
    out.read_line(&mut printed).unwrap();
    first.signal(Signal::TERM);
    out.read_to_string(&mut printed).unwrap();
    assert_eq!(first.wait().code(), Some(0), "{}", first.all());
    let mut second = Process::start(read(&more));
    let mut out = second.stdout();
    let mut send = acopio();
    send.args(["send", "--head", &head.at(), "the end"]);
    assert_eq!(ran(send).0, Some(0));
    while !printed.ends_with("the end\n") {
        assert!(out.read_line(&mut printed).unwrap() > 0);
    }
    assert_eq!(printed.lines().count(), lines.len() + 1);
    assert_eq!(printed.lines().collect::<BTreeSet<_>>().len(), lines.len() + 1);
}

#[test]
fn flags_that_contradict_each_other_are_told() {
    for (more, wanted) in [
        (&["--last"][..], "--last needs a number"),
        (&["--every", "1m", "--mean", "--max"], "--mean and --max are two questions"),
        (&["--every", "1m", "--long"], "leave --long out"),
        (&["--every", "1m", "--format", "influx"], "let the database put them together"),
        (&["--fields", "a", "--format", "raw"], "use text, json or csv"),
        (&["--excel", "--format", "json"], "leave --format out"),
        (&["--dir", ".", "--follow"], "--follow needs a cluster"),
        (&["--by", "device"], "--every"),
        (&["--state", "x", "--last", "3"], "cannot be used with"),
        (&["--after", "x"], "is not a record id"),
    ] {
        let (code, _, err) = ran(read(more));
        assert_eq!(code, Some(2), "{more:?}: {err}");
        assert!(err.contains(wanted), "{more:?}: {err}");
    }
}

#[cfg(feature = "parquet")]
#[test]
fn parquet_is_a_file_that_ends() {
    let dir = tempfile::tempdir().unwrap();
    let data = folder(&dir.path().join("a"), &PAYLOADS);
    for more in [&["--fields", "temp"][..], &["--long"], &[], &["--every", "1m"]] {
        let output = read(&[&["--dir", data.as_str(), "--format", "parquet"], more].concat()).output().unwrap();
        assert!(output.stdout.starts_with(b"PAR1") && output.stdout.ends_with(b"PAR1"), "{more:?}");
    }
}
