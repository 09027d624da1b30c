//! A fuzzer of what strangers can say to a head: openings, frames, the way of a data node to its place, and the roster.
//!
//! Good sessions are changed, cut into packets, and said at a door in memory. Nothing may panic, take memory without bound, or
//! be believed without its proof; each refusal has words. The same sessions come in each run of the tests;
//! `ACOPIO_FUZZ_EXECUTIONS` says how many, and `ACOPIO_FUZZ_SEED` where their numbers begin. `corpus.txt` has one for each way in
//! which a session ended, out of millions; each run says them again. `ACOPIO_FUZZ_CORPUS` names a file for another such list.

mod door;
mod mutate;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use bytes::BytesMut;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use self::door::{Came, Door, End};
use self::mutate::{SECRET, Session, changed, frame, packets, sessions};
use super::gate::Gate;
use crate::key::{ClusterKey, Nonces, Said, Side};
use crate::tokens::{SecretHash, Tokens};
use crate::wire::error::Code;
use crate::wire::frame::Frame;
use crate::wire::proof::{Holder, Nonce};
use crate::wire::secret::Secret;

/// Executions where nobody says how many: as many as cost little in each run of the tests.
const EXECUTIONS: u64 = 20_000;

/// The session that proves that it has the key.
const KNOCKS: &str = "a data node with a key";

/// The seed of the nonces that the recorded session heard.
const RECORDED: u64 = 1;

/// The file with the corpus. A session on each line: whether the key is asked of everybody, the seed of the head's nonces, what it came to, and its packets
/// in hex.
const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/head/fuzz/corpus.txt");

/// Longest session of the corpus, bytes.
const CORPUS_BYTES_MAX: usize = 600;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn cluster() -> ClusterKey {
    ClusterKey::from_bytes([7; 32])
}

/// What the two data nodes noted that are there before.
fn roster_of_two() -> Vec<u8> {
    mutate::of_node().into_iter().find(|part| part.get(4) == Some(&0x1e)).unwrap()
}

/// A head's gate whose nonces are those of this seed.
fn gate(everybody: bool, nonces: u64) -> Gate {
    let keys = Rc::new(RefCell::new(vec![cluster()]));
    Gate { keys, everybody, text_nodes: Vec::new(), nonces: Nonces::seeded(nonces) }
}

fn tokens() -> Tokens {
    let hash = SecretHash::of(&SECRET.parse::<Secret>().unwrap());
    let (tokens, wrong) = Tokens::parse(&format!("taller sha256={hash} roles=write\n"));
    assert!(wrong.is_empty());
    tokens
}

/// The session of a data node that has a key, as it was recorded with the nonce that the head drew then.
fn knocking() -> Session {
    let (nonce, key) = ([3; 32], cluster().node("nueve"));
    let register = mutate::register(9, "nueve");
    let head = Nonces::seeded(RECORDED).draw();
    let said = Said { peer: Nonce(nonce), head, cluster: "acopio", frame: &register, channel: None };
    let proof = key.prove(Side::Peer, &said).0;
    let mut parts = vec![b"peticion acopio/2\n".to_vec(), b"dataNode\n".to_vec()];
    parts.extend([frame(0x28, &[&[0], &key.hint().0, &nonce]), register.clone(), frame(0x2a, &[&proof])]);
    parts.extend(mutate::of_node());
    Session { name: KNOCKS, parts }
}

fn all_sessions() -> Vec<Session> {
    sessions().into_iter().chain([knocking()]).collect()
}

/// Says the packets at a door; what the connection came to, and why it ended.
fn said(gate: &Gate, tokens: &Tokens, packets: &[Vec<u8>]) -> (Came, Option<End>) {
    let mut door = Door::new(gate, tokens);
    let end = packets.iter().find_map(|packet| door.feed(packet).err());
    (door.came, end)
}

/// What a session came to.
fn ended(came: &Came, end: Option<&End>) -> String {
    let end = match end {
        None => "goes on".to_owned(),
        Some(End::Handshake) => "no opening".to_owned(),
        Some(End::Token) => "no token".to_owned(),
        Some(End::Refused(refusal)) => format!("refused {:?}", refusal.code),
    };
    let proved = matches!(came.registered, Some(Some(_)));
    let registered = came.registered.is_some();
    format!(
        "{end}, {} rosters{}{}",
        came.rosters,
        if registered { ", in" } else { "" },
        if proved { ", proved" } else { "" }
    )
}

/// Sessions that ended in a way that none before did.
#[derive(Default)]
struct Corpus(BTreeMap<String, String>);

impl Corpus {
    fn look(&mut self, everybody: bool, nonces: u64, name: &str, packets: &[Vec<u8>], came: &Came, end: Option<&End>) {
        if packets.iter().map(Vec::len).sum::<usize>() > CORPUS_BYTES_MAX {
            return;
        }
        let to = ended(came, end);
        let text = if let Some(End::Refused(refusal)) = end { refusal.text.as_str() } else { "" };
        // What it says of numbers and bytes tells no way from another.
        let words: Vec<&str> = text.split(' ').filter(|word| word.chars().all(|c| c.is_ascii_alphabetic())).collect();
        let hex = |packet: &Vec<u8>| packet.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let line = || {
            let packets: Vec<String> = packets.iter().map(hex).collect();
            format!("{everybody}\t{nonces}\t{to}\t{}\n", packets.join(","))
        };
        self.0.entry(format!("{name} {to} {}", words.join(" "))).or_insert_with(line);
    }
}

/// Who knocked, with which nonce, and as whom.
fn without_hint(proved: &(Frame, Frame)) -> (Option<(Holder, Nonce)>, &Frame) {
    let knocked = if let Frame::Knock(knock) = &proved.0 { Some((knock.holder, knock.nonce)) } else { None };
    (knocked, &proved.1)
}

/// Tells which execution it was, if it panics.
struct Execution<'a>(u64, &'a Session);

impl Drop for Execution<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(number, Session { name, parts }) = self;
            eprintln!("execution {number}, once {name}: {}", parts.concat().escape_ascii());
        }
    }
}

#[test]
fn the_recorded_sessions_are_good() {
    let tokens = tokens();
    for session in all_sessions() {
        let knocks = session.name == KNOCKS;
        let (came, end) = said(&gate(knocks, RECORDED), &tokens, &session.parts);
        if session.name == "TLS" {
            assert!(matches!(end, Some(End::Handshake)));
            continue;
        }
        assert!(end.is_none(), "{}: {end:?}", session.name);
        assert_eq!(came.token, session.name.contains("token"), "{}", session.name);
        assert_eq!(came.registered.is_some(), session.name.contains("data node"), "{}", session.name);
        assert_eq!(came.rosters, if came.registered.is_some() { 2 } else { 0 });
        assert_eq!(came.messages > 0, session.name.starts_with("frames"));
    }
}

#[test]
fn a_recorded_session_is_nothing_to_a_head_that_draws_another_nonce() {
    let (session, tokens) = (knocking(), tokens());
    for nonces in 2..50 {
        let (came, end) = said(&gate(true, nonces), &tokens, &session.parts);
        let Some(End::Refused(refusal)) = end else { panic!("{nonces}: {end:?}") };
        assert!(came.registered.is_none() && refusal.code == Code::Unproven, "{refusal}");
    }
}

#[test]
fn the_corpus_comes_to_what_it_came_to() {
    let tokens = tokens();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    let corpus = std::fs::read_to_string(CORPUS).unwrap();
    for line in corpus.lines() {
        let [everybody, nonces, wanted, hex] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let packets: Vec<Vec<u8>> =
            hex.split(',').map(|packet| packet.as_bytes().chunks(2).map(byte).collect()).collect();
        let (came, end) = said(&gate(everybody == "true", nonces.parse().unwrap()), &tokens, &packets);
        assert_eq!(ended(&came, end.as_ref()), wanted, "{line}: {end:?}");
    }
    assert!(corpus.lines().count() > 100);
}

#[test]
fn whatever_strangers_say_is_refused_in_words_or_had_its_proof() {
    let (executions, seed) = (number("ACOPIO_FUZZ_EXECUTIONS", EXECUTIONS), number("ACOPIO_FUZZ_SEED", 0));
    let (sessions, tokens) = (all_sessions(), tokens());
    let knocked = knocking();
    let part = |at: usize| Frame::decode(&mut BytesMut::from(knocked.parts[at].as_slice())).unwrap().unwrap();
    let recorded = (part(2), part(3));
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    let (start, mut corpus) = (std::time::Instant::now(), Corpus::default());
    let keeps = std::env::var("ACOPIO_FUZZ_CORPUS").ok();
    for number in seed..seed + executions {
        let mut rng = SmallRng::seed_from_u64(number);
        let session = changed(&mut rng, &sessions);
        let _told_if_it_panics = Execution(number, &session);
        let (everybody, again): (bool, bool) = (rng.random(), rng.random());
        let nonces = if again { RECORDED } else { number + 2 };
        let packets = packets(&mut rng, &session);
        let (came, end) = said(&gate(everybody, nonces), &tokens, &packets);
        if keeps.is_some() {
            corpus.look(everybody, nonces, session.name, &packets, &came, end.as_ref());
        }
        if let Some(Some(proved)) = &came.registered {
            assert!(again, "what was recorded proves something later");
            // But for the hint: the first key counts where none is meant.
            assert_eq!(without_hint(proved), without_hint(&recorded), "what was changed is proved");
        }
        let ended = match end {
            None => "goes on",
            Some(End::Handshake) => "no opening",
            Some(End::Token) => "no token",
            Some(End::Refused(_)) => "refused",
        };
        let proved = matches!(came.registered, Some(Some(_)));
        for (what, is_so) in [
            ("frames", came.frames > 0),
            ("let in with a token", came.token),
            ("registered", came.registered.is_some()),
            ("registered with a proof", proved),
            ("rosters believed", came.rosters > 0),
        ] {
            *counted.entry(what).or_default() += u64::from(is_so);
        }
        *counted.entry(ended).or_default() += 1;
    }
    eprintln!("{executions} executions from {seed} on in {:?}: {counted:?}", start.elapsed());
    if let Some(path) = keeps {
        std::fs::write(path, corpus.0.into_values().collect::<String>()).unwrap();
    }
    // It comes everywhere, or it would prove nothing.
    assert_eq!(counted.len(), 9, "{counted:?}");
    assert!(executions < EXECUTIONS || counted.values().all(|&count| count > EXECUTIONS / 500), "{counted:?}");
}
