//! The calculation server's table, message by message.

use super::*;

const WAIT: Duration = Duration::from_secs(2);

struct Test {
    desk: Desk,
    now: Instant,
    said: Vec<String>,
}

impl Test {
    fn new() -> Self {
        Self { desk: Desk::new(WAIT), now: Instant::now(), said: Vec::new() }
    }

    /// What is published, and what is said on the way.
    fn done(&mut self, acts: Vec<Act>) -> Vec<String> {
        let mut published = Vec::new();
        for act in acts {
            match act {
                Act::Say(line) => self.said.push(line),
                Act::Warn(line) => self.said.push(format!("warn: {line}")),
                Act::Publish { topic, value } => published.push(format!("{topic} {value}")),
            }
        }
        published
    }

    fn gets(&mut self, topic: &str, frames: &[&str]) -> Vec<String> {
        let acts = self.desk.message(topic.as_bytes(), frames.iter().map(|frame| frame.as_bytes()), self.now);
        self.done(acts)
    }

    fn after(&mut self, time: Duration) -> Vec<String> {
        self.now += time;
        let acts = self.desk.tick(self.now);
        self.done(acts)
    }
}

#[test]
fn the_original_way_and_its_lines() {
    let mut test = Test::new();
    assert!(test.gets("calc.request.1", &["12"]).is_empty());
    assert_eq!(test.gets("calc.request.2", &["13"]), ["calc.square.request.1 12", "calc.square.request.2 13"]);
    assert!(test.gets("calc.square.result.2", &["169"]).is_empty());
    assert_eq!(test.gets("calc.square.result.1", &["144"]), ["calc.hypotenuse.result 17.6918"]);
    let lines = [
        "Recibido cateto1: 12",
        "Recibido cateto2: 13",
        "Recibido square2: 169",
        "Recibido square1: 144",
        "Publicando hipotenusa: 17.6918",
    ];
    assert_eq!(test.said, lines);
    assert_eq!(test.desk.next(), None);
}

#[test]
fn what_does_not_come_is_computed_here_and_is_no_news_when_it_is_late() {
    let mut test = Test::new();
    test.gets("calc.request.1", &["12"]);
    test.gets("calc.request.2", &["13"]);
    test.gets("calc.square.result.2", &["169"]);
    assert_eq!(test.desk.next(), Some(test.now + limits::CALC_SQUARE_AGAIN_AFTER));
    let again = test.after(limits::CALC_SQUARE_AGAIN_AFTER);
    assert_eq!(again, ["calc.square.request.1 12"], "who squares may just have come");
    let left = WAIT - limits::CALC_SQUARE_AGAIN_AFTER;
    assert_eq!(test.desk.next(), Some(test.now + left));
    assert!(test.after(left - Duration::from_millis(1)).is_empty(), "once");
    assert_eq!(test.after(Duration::from_millis(1)), ["calc.hypotenuse.result 17.6918"]);
    assert!(test.said.iter().any(|line| line == "⚠ op1 no respondió, calculando a² local"), "{:?}", test.said);
    assert!(!test.said.iter().any(|line| line.contains("op2")));
    test.after(Duration::from_secs(3));
    assert!(test.gets("calc.square.result.1", &["144"]).is_empty());
    assert!(test.gets("calc.square.result.2", &["169"]).is_empty());
}

#[test]
fn after_a_while_the_same_squares_are_somebody_elses() {
    let mut test = Test::new();
    test.gets("calc.request.1", &["12"]);
    test.gets("calc.request.2", &["13"]);
    // Nobody squares; then operation servers are started, and a client of the last figure asks them.
    assert_eq!(test.after(WAIT), ["calc.hypotenuse.result 17.6918"]);
    test.after(Duration::from_secs(5));
    test.gets("calc.square.result.1", &["144"]);
    assert_eq!(test.gets("calc.square.result.2", &["169"]), ["calc.hypotenuse.result 17.6918"]);
}

#[test]
fn duplicates_are_dropped_whenever_they_come() {
    let mut test = Test::new();
    test.gets("calc.request.1", &["3"]);
    test.gets("calc.request.2", &["4"]);
    test.gets("calc.square.result.1", &["9"]);
    assert!(test.gets("calc.square.result.1", &["9"]).is_empty());
    assert_eq!(test.gets("calc.square.result.2", &["16"]), ["calc.hypotenuse.result 5.0000"]);
    assert!(test.gets("calc.square.result.1", &["9"]).is_empty());
    assert!(test.gets("calc.square.result.2", &["16"]).is_empty());
    assert_eq!(test.said.iter().filter(|line| line.contains("square1")).count(), 1);
}

#[test]
fn squares_that_nobody_asked_for_are_answered() {
    let mut test = Test::new();
    test.gets("calc.square.result.1", &["144"]);
    assert_eq!(test.gets("calc.square.result.2", &["169"]), ["calc.hypotenuse.result 17.6918"]);
    test.gets("calc.square.result.1", &["144"]);
    test.after(limits::CALC_LEG_TIME_MAX);
    assert!(test.gets("calc.square.result.2", &["169"]).is_empty(), "the first was forgotten");
}

#[test]
fn requests_of_two_clients_at_once_are_not_mixed() {
    let mut test = Test::new();
    test.gets("calc.request.pair", &["A", "3", "4"]);
    test.gets("calc.request.pair", &["B", "5", "12"]);
    // What follows each for servers of the original is passed over, in any order.
    for (topic, leg) in [("1", "5"), ("1", "3"), ("2", "4"), ("2", "12")] {
        assert!(test.gets(&format!("calc.request.{topic}"), &[leg]).is_empty());
    }
    test.gets("calc.square.result.1", &["25"]);
    test.gets("calc.square.result.1", &["9"]);
    assert_eq!(test.gets("calc.square.result.2", &["144"]), ["calc.hypotenuse.pair.B 13.0000"]);
    assert_eq!(test.gets("calc.square.result.2", &["16"]), ["calc.hypotenuse.pair.A 5.0000"]);
    // The original's clients in between have their own.
    test.gets("calc.request.pair", &["C", "3", "4"]);
    for (topic, leg) in [("1", "8"), ("1", "3"), ("2", "4")] {
        assert!(test.gets(&format!("calc.request.{topic}"), &[leg]).is_empty());
    }
    assert_eq!(test.gets("calc.request.2", &["15"]), ["calc.square.request.1 8", "calc.square.request.2 15"]);
}

#[test]
fn legs_of_the_original_are_paired_in_their_order() {
    let mut test = Test::new();
    test.gets("calc.request.1", &["3"]);
    test.gets("calc.request.1", &["5"]);
    assert_eq!(test.gets("calc.request.2", &["4"]), ["calc.square.request.1 3", "calc.square.request.2 4"]);
    assert_eq!(test.gets("calc.request.2", &["12"]), ["calc.square.request.1 5", "calc.square.request.2 12"]);
    test.gets("calc.request.1", &["7"]);
    test.after(limits::CALC_LEG_TIME_MAX);
    assert!(test.said.iter().any(|line| line.contains("cateto1 7: the other leg did not come")), "{:?}", test.said);
}

#[test]
fn one_square_serves_all_who_have_that_leg() {
    let mut test = Test::new();
    test.gets("calc.request.pair", &["A", "3", "4"]);
    test.gets("calc.request.pair", &["B", "3", "4"]);
    test.gets("calc.square.result.1", &["9"]);
    let answers = test.gets("calc.square.result.2", &["16"]);
    assert_eq!(answers, ["calc.hypotenuse.pair.A 5.0000", "calc.hypotenuse.pair.B 5.0000"]);
}

#[test]
fn who_asks_again_is_answered_again_and_squared_once() {
    let mut test = Test::new();
    assert_eq!(test.gets("calc.request.pair", &["A", "3", "4"]).len(), 2);
    assert!(test.gets("calc.request.pair", &["A", "3", "4"]).is_empty());
    test.gets("calc.square.result.1", &["9"]);
    test.gets("calc.square.result.2", &["16"]);
    assert_eq!(test.gets("calc.request.pair", &["A", "3", "4"]), ["calc.hypotenuse.pair.A 5.0000"]);
}

#[test]
fn nonsense_is_told_and_does_no_harm() {
    let mut test = Test::new();
    for (topic, frames) in [
        ("calc.request.1", &["doce"][..]),
        ("calc.request.2", &[]),
        ("calc.request.pair", &["A", "3"]),
        ("calc.square.result.1", &["1e5"]),
        ("calc.request.1.more", &["1"]),
        ("", &[]),
    ] {
        assert!(test.gets(topic, frames).is_empty(), "{topic}");
    }
    assert_eq!(test.said.len(), 4, "{:?}", test.said);
    test.gets("calc.square.result.1", &["-9"]);
    test.gets("calc.square.result.2", &["1"]);
    assert!(test.said.last().is_some_and(|line| line.contains("no root")), "{:?}", test.said);
}

#[test]
fn nothing_grows_without_end() {
    let mut test = Test::new();
    for k in 0..3 * limits::CALC_REQUESTS_MAX {
        let leg = k.to_string();
        test.gets("calc.request.1", &[&leg]);
        test.gets("calc.request.pair", &[&leg, &leg, &leg]);
        test.gets("calc.square.result.2", &[&format!("{k}7")]);
    }
    let desk = &test.desk;
    let lengths = [desk.legs[0].len(), desk.echoes[0].len(), desk.requests.len(), desk.squares[1].len()];
    assert!(lengths.iter().all(|&length| length <= limits::CALC_REQUESTS_MAX), "{lengths:?}");
    assert!(test.said.iter().any(|line| line.contains("too many requests wait")));
}
