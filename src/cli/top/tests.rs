//! The screen as it is drawn, and what keys make of it.

use std::time::Duration;

use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::*;
use crate::cli::plot::Curve;
use crate::reading::{Reading, UnixNs};
use crate::wire::status::{Lacking, MemberAway, NodeStatus, StatusReport};

fn node(name: &str, reason: &str) -> NodeStatus {
    let state = if reason.is_empty() { "disponible" } else { "solo lectura" };
    serde_json::from_value(json!({
        "name": name, "ip": "127.0.0.1", "port": 1, "id": "", "dialect": "framed", "state": state, "since": "",
        "records": 1_234_567, "bytes": 0, "syncs": 7, "written": 0, "free": 64_000_000_000_u64, "writable": reason.is_empty(), "reason": reason,
        "in_flight": 0, "acked": 0, "sync": "always", "ping_ms": null, "icmp": null,
    }))
    .unwrap()
}

fn device(name: &str, text: &str, heard_s: u64) -> DeviceStatus {
    DeviceStatus {
        name: name.to_owned(),
        records: 1,
        last_id: format!("{heard_s}"),
        last_text: Some(text.to_owned()),
        heard_s: Some(heard_s),
        period_s: Some(0.5),
        silent: heard_s > 100,
        ..DeviceStatus::default()
    }
}

/// A cluster with everything that can be wrong.
fn told() -> Told {
    let report = StatusReport {
        cluster: "taller".to_owned(),
        uptime_s: 7300,
        replicas: 2,
        copies_min: 2,
        clients: 3,
        in_flight: 4,
        rate_1s: 12.25,
        rate_10s: 11.5,
        short_of_copies: 7,
        lacking: vec![Lacking { ledger: "a".to_owned(), from: 1, end: 3 }],
        nodes: vec![node("data1", ""), node("data3", "disk full; make room")],
        members_away: vec![MemberAway {
            name: "data2".to_owned(),
            id: String::new(),
            since: "2026-11-21T04:11:00Z".to_owned(),
        }],
        ..StatusReport::default()
    };
    let cluster = overview::Cluster {
        heads: vec![("h1:5000".to_owned(), Ok(report))],
        written_per_day: [("data1".to_owned(), 5e9)].into(),
    };
    let devices = DevicesReport {
        devices: vec![
            device("esp7", "mensaje: temp=21.4C hum=40%", 2),
            device("horno", "temp=85C", 3),
            device("lora/", "a group", 1),
            device("pozo", "nivel \u{1b}[2J\u{202e}3", 7199),
            device("価格", "temp=21 価格価格価格価格価格価格価格", 1),
        ],
        ..DevicesReport::default()
    };
    let (rules, _) = Rules::parse("horno: temp °C 5..45");
    Told::new(&cluster, Ok(&devices), &[("data1".to_owned(), 3.25)].into(), &rules)
}

fn drawn(told: &Told, view: &View, columns: u16, rows: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
    terminal.draw(|frame| screen::draw(frame, told, view)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..columns).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..rows).map(line).collect()
}

fn press(view: &mut View, told: &Told, keys: &str) {
    for key in keys.chars() {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            key => KeyCode::Char(key),
        };
        assert_eq!(view.key(KeyEvent::from(code), told), Act::Nothing, "{key:?}");
    }
}

fn names(view: &View, told: &Told) -> Vec<String> {
    view.sources(told).into_iter().map(|source| source.name.clone()).collect()
}

#[test]
fn all_of_it_stands_on_a_screen_of_80_by_24() {
    let lines = drawn(&told(), &View::default(), 80, 24);
    let top = [
        "acopio  cluster taller  heads 1 of 1  data nodes 2, 1 away  copies 2  up 2h",
        "12.2 messages/s, 11.5 over ten seconds  4 in flight  0 refused  3 clients",
        "NODE      STATE       SYN/S   B/DAY    FREE SOURCE      LAST           AGE EVERY",
        "data2     away since 2026-11-21T04:11:00Z   pozo        nivel \\u{1b}… 120m  0.5s",
        "data3     solo lectu…     -       - 59.6GiB horno       temp=85C        3s  0.5s",
        "data1     disponible    3.2  4.7GiB 59.6GiB esp7        temp=21.4C h…   2s  0.5s",
    ];
    assert_eq!(lines[..6], top);
    assert!(lines[6].ends_with("temp=21 価…   1s  0.5s") || lines[6].ends_with("  1s  0.5s"), "{}", lines[6]);
    let bottom = [
        "ALARMS",
        "records that were acknowledged are on no data node that is here",
        "data node data2 is away since 2026-11-21T04:11:00Z: its records have copies",
        "  elsewhere, which are made anew if it stays away; start it again",
        "data node data3 takes no messages: disk full; make room",
        "7 records are short of copies",
        "and 2 more",
        "up, down: choose   enter: curve   s: order (trouble)   /: filter   q: end",
    ];
    assert_eq!(lines[16..], bottom);
}

#[test]
fn a_larger_screen_shows_more() {
    let lines = drawn(&told(), &View::default(), 120, 40);
    assert!(lines[3].contains("nivel \\u{1b}[2J\\u{202e}3  "), "{}", lines[3]);
    assert!(lines[2].contains("   FREE  RECS SOURCE") && lines[5].contains(" 59.6GiB  1.2M esp7"), "{lines:?}");
    let silent = lines.iter().position(|line| line == "silent for three of their periods: 1 of 4 sources, pozo");
    assert_eq!(silent, Some(37), "{lines:?}");
    assert_eq!(lines[38], "out of range: 1 of 4 sources, horno");
}

#[test]
fn who_is_chosen_is_seen_and_so_is_how_many_more_there_are() {
    let report =
        StatusReport { nodes: (10..60).map(|n| node(&format!("n{n}"), "")).collect(), ..StatusReport::default() };
    let devices = (100..300).map(|n| device(&format!("d{n}"), "1", 1)).collect();
    let cluster = overview::Cluster { heads: vec![("h".to_owned(), Ok(report))], written_per_day: BTreeMap::new() };
    let report = DevicesReport { devices, ..DevicesReport::default() };
    let told = Told::new(&cluster, Ok(&report), &BTreeMap::new(), &Rules::default());
    let mut view = View::default();
    let lines = drawn(&told, &view, 80, 24);
    assert!(lines[3].starts_with("n10 ") && lines[3].contains(" d100 ") && lines[22].starts_with("ALARMS  none"));
    assert!(lines[21].starts_with("and 32 more"), "{}", lines[21]);
    press(&mut view, &told, &"j".repeat(250));
    let lines = drawn(&told, &view, 80, 24);
    assert!(lines[21].contains(" d299 "), "{}", lines[21]);
    press(&mut view, &told, &"k".repeat(100));
    let lines = drawn(&told, &view, 80, 24);
    assert!(lines[12].contains(" d199 "), "in the middle: {lines:?}");
}

#[test]
fn where_no_head_answers_it_says_so() {
    let heads = vec![("h1:5000".to_owned(), Err("head h1:5000: no answer; see that it runs".to_owned()))];
    let cluster = overview::Cluster { heads, written_per_day: BTreeMap::new() };
    let told = Told::new(&cluster, Err("no answer"), &BTreeMap::new(), &Rules::default());
    let lines = drawn(&told, &View::default(), 80, 24);
    assert_eq!((lines[0].as_str(), lines[22].as_str()), ("acopio  no head answers", told.alarms[0].as_str()));
}

#[test]
fn no_size_and_no_names_make_it_panic() {
    let told = told();
    for (columns, rows) in [(1, 1), (10, 3), (43, 7), (44, 5), (79, 24), (300, 90)] {
        let lines = drawn(&told, &View::default(), columns, rows);
        assert!(lines.iter().all(|line| line.chars().count() <= usize::from(columns)), "{lines:?}");
    }
    assert!(drawn(&Told::asking(&["h1:5000".to_owned()]), &View::default(), 80, 24)[0].contains("asking h1:5000"));
}

#[test]
fn keys_sort_and_filter_and_choose() {
    let (told, mut view) = (told(), View::default());
    assert_eq!(names(&view, &told), ["pozo", "horno", "esp7", "価格"], "silent, out of range, then by name");
    press(&mut view, &told, "s");
    assert_eq!(names(&view, &told), ["esp7", "horno", "pozo", "価格"]);
    press(&mut view, &told, "jjjjjjk");
    let chosen = |view: &View| {
        let sources = view.sources(&told);
        sources[view.place(&sources)].name.clone()
    };
    assert_eq!(chosen(&view), "pozo");
    press(&mut view, &told, "s");
    assert_eq!(names(&view, &told), ["価格", "esp7", "horno", "pozo"], "who spoke last first");
    assert_eq!(chosen(&view), "pozo", "who is chosen stays so in another order");
    press(&mut view, &told, "/OqX");
    assert_eq!((names(&view, &told).len(), view.filter.as_str()), (0, "OqX"), "a filter takes all letters");
    assert!(drawn(&told, &view, 80, 24)[3].ends_with("none with the filter"));
    assert_eq!(view.key(KeyEvent::from(KeyCode::Backspace), &told), Act::Nothing);
    assert_eq!(view.key(KeyEvent::from(KeyCode::Backspace), &told), Act::Nothing);
    press(&mut view, &told, "\n");
    assert_eq!(names(&view, &told), ["horno", "pozo"]);
    assert!(drawn(&told, &view, 80, 24)[23].contains("/: filter (O)"));
    press(&mut view, &told, "\x1b");
    assert_eq!(names(&view, &told).len(), 4);
    assert_eq!(view.key(KeyEvent::from(KeyCode::Char('q')), &told), Act::End);
    assert_eq!(view.key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), &told), Act::End);
}

#[test]
fn a_curve_is_read_when_it_is_opened_and_when_something_came() {
    let (mut told, mut view, begun) = (told(), View::default(), Instant::now());
    let at = |second| begun + Duration::from_secs(second);
    assert_eq!(view.due(&told, at(0)), None);
    press(&mut view, &told, "jj\n");
    assert_eq!(view.due(&told, at(0)).as_deref(), Some("esp7"));
    assert!(drawn(&told, &view, 80, 24)[3].starts_with("reading the last hour"));
    told.sources[0].last_id = "another".to_owned();
    assert_eq!(view.due(&told, at(60)), None, "it is being read");
    view.take("horno", Err("of another".to_owned()));
    assert_eq!(view.due(&told, at(60)), None);
    view.take("esp7", Ok((curve(), Duration::from_secs(60))));
    let lines = drawn(&told, &view, 80, 24);
    assert_eq!(lines[2], "esp7  temp=21.4C hum=40%  2s ago");
    assert_eq!(lines[3], "value C: median of each 1m, 30 values");
    assert!(lines.iter().any(|line| line.contains('┤') && line.contains('⠉')), "{lines:?}");
    assert!(lines[23].starts_with("esc: back"));
    assert_eq!(view.due(&told, at(4)), None, "too soon");
    assert_eq!(view.due(&told, at(5)).as_deref(), Some("esp7"), "something came");
    view.take("esp7", Ok((curve(), Duration::from_secs(60))));
    assert_eq!(view.due(&told, at(3600)), None, "an idle source is not read again");
    assert_eq!(view.key(KeyEvent::from(KeyCode::Esc), &told), Act::Closed);
    assert_eq!(view.due(&told, at(7200)), None);
}

fn curve() -> Curve {
    let mut curve = Curve::of_medians(Duration::from_secs(60));
    for minute in 0..30_u64 {
        let taken = UnixNs((1_795_234_260 + 60 * minute) * 1_000_000_000);
        curve.add(&Reading::new(None, format!("{minute}C").as_bytes(), taken, &Rules::default()), None);
    }
    curve.finish();
    curve
}

proptest! {
    #[test]
    fn whatever_is_stored_does_no_harm(text: String, name: String) {
        let report = DevicesReport { devices: vec![device(&name, &text, 1)], ..DevicesReport::default() };
        let cluster = overview::Cluster { heads: Vec::new(), written_per_day: BTreeMap::new() };
        let told = Told::new(&cluster, Ok(&report), &BTreeMap::new(), &Rules::default());
        for line in drawn(&told, &View::default(), 80, 24) {
            prop_assert!(!line.contains(crate::printable::is_hidden), "{line:?}");
        }
    }
}
