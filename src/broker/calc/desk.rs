//! What the calculation server decides: which legs belong together, which square is for whom, what to do when one does not
//! come. Pure: no socket, and the time is handed in.
//!
//! - Both legs of one message, [`PAIR`], belong together; the same legs follow on the original's topics for servers that know
//!   only those, and are passed over.
//! - Legs on the original's topics say not whose they are. They are paired in the order in which they come, the first of one
//!   side with the first of the other; one whose partner does not come is forgotten.
//! - A square is for every request that has such a leg: its value tells. One that nobody asked for is paired with the first
//!   such one of the other side, and answered, as the original's last figure has it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::legs::Whole;
use super::{HYPOTENUSE, PAIR, PAIR_HYPOTENUSE, REQUESTS, SQUARE_REQUESTS, SQUARE_RESULTS, Side};
use crate::limits;

/// What the server has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Print this line.
    Say(String),
    /// Tell of trouble.
    Warn(String),
    /// Publish a value on a topic.
    Publish { topic: String, value: String },
}

/// A client's number for a request: up to this many bytes of it.
const NUMBER_BYTES_MAX: usize = 64;

/// The server's table.
#[derive(Debug)]
pub(super) struct Desk {
    wait: Duration,
    legs: [VecDeque<Waiting>; 2],
    echoes: [VecDeque<Waiting>; 2],
    requests: VecDeque<Request>,
    /// Squares that nobody asked for.
    squares: [VecDeque<Waiting>; 2],
    /// Squares that are no news: duplicates, and those that come late.
    known: [VecDeque<Waiting>; 2],
    /// Answers to pairs, for who asks again.
    answered: VecDeque<(String, String)>,
}

/// A number that waits for something until a time.
#[derive(Debug)]
struct Waiting {
    number: Whole,
    until: Instant,
}

#[derive(Debug)]
struct Request {
    /// The number of the client that named both legs.
    pair: Option<String>,
    legs: [Leg; 2],
    /// When squares that did not come are asked for again, once: who squares may have just come, and not been subscribed.
    again: Option<Instant>,
    until: Instant,
}

#[derive(Debug)]
struct Leg {
    number: Whole,
    square: Whole,
    came: bool,
}

impl Request {
    /// Asks for the squares that have not come.
    fn ask(&self, acts: &mut Vec<Act>) {
        for (side, leg) in Side::BOTH.into_iter().zip(&self.legs).filter(|(_, leg)| !leg.came) {
            acts.push(Act::Publish { topic: side.of(SQUARE_REQUESTS).to_owned(), value: leg.number.to_string() });
        }
    }
}

impl Desk {
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            wait,
            legs: Default::default(),
            echoes: Default::default(),
            requests: VecDeque::new(),
            squares: Default::default(),
            known: Default::default(),
            answered: VecDeque::new(),
        }
    }

    /// A message came.
    pub(super) fn message<'a>(
        &mut self,
        topic: &[u8],
        mut frames: impl Iterator<Item = &'a [u8]>,
        now: Instant,
    ) -> Vec<Act> {
        let mut acts = self.tick(now);
        let value = frames.next().unwrap_or_default();
        let result = if topic == PAIR.as_bytes() {
            let legs = (frames.next().unwrap_or_default(), frames.next().unwrap_or_default());
            self.pair(value, legs.0, legs.1, now, &mut acts)
        } else if let Some(side) = Side::with(topic, REQUESTS) {
            Whole::leg(value).map(|leg| self.leg(side, leg, now, &mut acts))
        } else if let Some(side) = Side::with(topic, SQUARE_RESULTS) {
            Whole::square_of_leg(value).map(|square| self.square(side, &square, now, &mut acts))
        } else {
            Ok(())
        };
        if let Err(refused) = result {
            acts.push(Act::Warn(format!("{}: {refused}", String::from_utf8_lossy(topic))));
        }
        acts
    }

    /// When something has to be done if nothing comes.
    pub(super) fn next(&self) -> Option<Instant> {
        let waiting = self.legs.iter().chain(&self.squares).filter_map(|all| all.front().map(|one| one.until));
        let requests = self.requests.iter().flat_map(|request| request.again.into_iter().chain([request.until]));
        requests.chain(waiting).min()
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        for side in Side::BOTH {
            let forgotten = at(&mut self.legs, side).iter().take_while(|leg| leg.until <= now).count();
            for leg in at(&mut self.legs, side).drain(..forgotten) {
                let (number, side) = (leg.number, side.number());
                acts.push(Act::Warn(format!("cateto{side} {number}: the other leg did not come; it is forgotten")));
            }
            for all in [&mut self.echoes, &mut self.squares, &mut self.known] {
                at(all, side).retain(|one| one.until > now);
            }
        }
        while let Some(k) = self.requests.iter().position(|request| request.until <= now) {
            self.answer(k, now, &mut acts);
        }
        for request in self.requests.iter_mut().filter(|request| request.again.is_some_and(|again| again <= now)) {
            request.again = None;
            request.ask(&mut acts);
        }
        acts
    }

    fn pair(
        &mut self,
        number: &[u8],
        a: &[u8],
        b: &[u8],
        now: Instant,
        acts: &mut Vec<Act>,
    ) -> Result<(), super::legs::Refused> {
        let legs = [Whole::leg(a)?, Whole::leg(b)?];
        let number = String::from_utf8_lossy(number.get(..number.len().min(NUMBER_BYTES_MAX)).unwrap_or_default());
        for (side, leg) in Side::BOTH.into_iter().zip(&legs) {
            let echo = Waiting { number: leg.clone(), until: now + limits::CALC_LEG_TIME_MAX };
            push(at(&mut self.echoes, side), echo);
        }
        if let Some((_, answer)) = self.answered.iter().find(|(known, _)| *known == number) {
            acts.push(Act::Publish { topic: format!("{PAIR_HYPOTENUSE}{number}"), value: answer.clone() });
        } else if !self.requests.iter().any(|request| request.pair.as_deref() == Some(&number)) {
            self.request(Some(number.into_owned()), legs, now, acts);
        }
        Ok(())
    }

    fn leg(&mut self, side: Side, leg: Whole, now: Instant, acts: &mut Vec<Act>) {
        let echoes = at(&mut self.echoes, side);
        if let Some(k) = echoes.iter().position(|echo| echo.number == leg) {
            echoes.remove(k);
            return;
        }
        let until = now + limits::CALC_LEG_TIME_MAX;
        let legs = at(&mut self.legs, side);
        if legs.len() >= limits::CALC_REQUESTS_MAX {
            acts.push(Act::Warn(format!("cateto{} {leg} is refused: too many legs wait", side.number())));
            return;
        }
        legs.push_back(Waiting { number: leg, until });
        let [ones, twos] = &mut self.legs;
        if let (Some(_), Some(_)) = (ones.front(), twos.front())
            && let (Some(one), Some(two)) = (ones.pop_front(), twos.pop_front())
        {
            self.request(None, [one.number, two.number], now, acts);
        }
    }

    fn request(&mut self, pair: Option<String>, legs: [Whole; 2], now: Instant, acts: &mut Vec<Act>) {
        if self.requests.len() >= limits::CALC_REQUESTS_MAX {
            let [a, b] = legs;
            acts.push(Act::Warn(format!("{a} and {b} are refused: too many requests wait for squares")));
            return;
        }
        for (side, leg) in Side::BOTH.into_iter().zip(&legs) {
            acts.push(Act::Say(format!("Recibido cateto{}: {leg}", side.number())));
        }
        let legs = legs.map(|number| Leg { square: number.squared(), number, came: false });
        let request =
            Request { pair, legs, again: Some(now + limits::CALC_SQUARE_AGAIN_AFTER), until: now + self.wait };
        request.ask(acts);
        self.requests.push_back(request);
    }

    fn square(&mut self, side: Side, square: &Whole, now: Instant, acts: &mut Vec<Act>) {
        let mut wanted = false;
        for request in &mut self.requests {
            let leg = at(&mut request.legs, side);
            // A second one is a duplicate.
            wanted |= leg.square == *square;
            if leg.square == *square && !leg.came {
                leg.came = true;
                acts.push(Act::Say(format!("Recibido square{}: {square}", side.number())));
            }
        }
        while let Some(k) = self.requests.iter().position(|request| request.legs.iter().all(|leg| leg.came)) {
            self.answer(k, now, acts);
        }
        if !wanted && !at(&mut self.known, side).iter().any(|known| known.number == *square) {
            self.unasked(side, square, now, acts);
        }
    }

    fn unasked(&mut self, side: Side, square: &Whole, now: Instant, acts: &mut Vec<Act>) {
        acts.push(Act::Say(format!("Recibido square{}: {square}", side.number())));
        let until = now + limits::CALC_LEG_TIME_MAX;
        push(at(&mut self.squares, side), Waiting { number: square.clone(), until });
        let [ones, twos] = &mut self.squares;
        if let (Some(_), Some(_)) = (ones.front(), twos.front())
            && let (Some(one), Some(two)) = (ones.pop_front(), twos.pop_front())
        {
            publish(HYPOTENUSE.to_owned(), Whole::hypotenuse(&one.number, &two.number), acts);
        }
    }

    /// Answers a request with the squares that came, and those that did not computed here.
    fn answer(&mut self, k: usize, now: Instant, acts: &mut Vec<Act>) {
        let Some(Request { pair, legs, again, .. }) = self.requests.remove(k) else { return };
        // Who was asked twice may answer twice, the second time as much later.
        let twice = if again.is_some() { Duration::ZERO } else { limits::CALC_SQUARE_AGAIN_AFTER };
        for (side, leg) in Side::BOTH.into_iter().zip(&legs) {
            let no_news_for = if leg.came { limits::CALC_DUPLICATE_TIME + twice } else { limits::CALC_LATE_TIME_MAX };
            push(at(&mut self.known, side), Waiting { number: leg.square.clone(), until: now + no_news_for });
            if !leg.came {
                let (number, letter) = (side.number(), side.letter());
                acts.push(Act::Say(format!("⚠ op{number} no respondió, calculando {letter}² local")));
            }
        }
        let [one, two] = &legs;
        let answer = Whole::hypotenuse(&one.square, &two.square);
        let topic = match &pair {
            Some(number) => format!("{PAIR_HYPOTENUSE}{number}"),
            None => HYPOTENUSE.to_owned(),
        };
        if let (Some(number), Some(answer)) = (pair, &answer) {
            if self.answered.len() >= limits::CALC_REQUESTS_MAX {
                self.answered.pop_front();
            }
            self.answered.push_back((number, answer.clone()));
        }
        publish(topic, answer, acts);
    }
}

fn publish(topic: String, answer: Option<String>, acts: &mut Vec<Act>) {
    match answer {
        Some(value) => {
            acts.push(Act::Say(format!("Publicando hipotenusa: {value}")));
            acts.push(Act::Publish { topic, value });
        }
        None => acts.push(Act::Warn("squares below zero have no root; they are forgotten".to_owned())),
    }
}

fn at<T>(both: &mut [T; 2], side: Side) -> &mut T {
    let [one, two] = both;
    match side {
        Side::One => one,
        Side::Two => two,
    }
}

/// One more, and without the oldest if there are too many.
fn push(all: &mut VecDeque<Waiting>, one: Waiting) {
    if all.len() >= limits::CALC_REQUESTS_MAX {
        all.pop_front();
    }
    all.push_back(one);
}

#[cfg(test)]
#[path = "desk_tests.rs"]
mod tests;
