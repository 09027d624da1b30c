//! What strangers say, in bytes: recorded sessions that are good, and what becomes of them when somebody changes them.
//!
//! The bytes are written by hand from `docs/wire.md`, not by the project's codec, and of this crate nothing is used: the
//! fuzzer in memory and the one over sockets (`tests/it/fuzz.rs`) share this file.

use rand::RngExt as _;
use rand::rngs::SmallRng;

/// The secret of a token that a head knows.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Most changes to one session.
const CHANGES_MAX: u32 = 6;

/// Most bytes of a session with its changes; a few frames more than the greatest takes.
const SESSION_BYTES_MAX: usize = 1 << 20;

/// A session: its words and frames, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) name: &'static str,
    pub(crate) parts: Vec<Vec<u8>>,
}

/// A frame of this kind and these fields.
pub(crate) fn frame(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let length = u32::try_from(body.len() + 1).unwrap_or(u32::MAX).to_be_bytes();
    [&length, [kind].as_slice(), &body].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes(), text.as_bytes()].concat()
}

/// A Register of this identity and name.
pub(crate) fn register(node: u64, name: &str) -> Vec<u8> {
    let report = [&[1][..], &[0; 40], &text("")].concat();
    frame(0x10, &[&node.to_be_bytes(), &[0xff; 8], &[0], &text(name), &text("acopio"), &[0], &report])
}

fn roster(copies: [u8; 3], generation: u32, members: &[(u64, u32, &str)]) -> Vec<u8> {
    let told = |(node, generation, name): &(u64, u32, &str)| {
        [&node.to_be_bytes()[..], &generation.to_be_bytes(), &text(name)].concat()
    };
    let members: Vec<u8> = members.iter().flat_map(told).collect();
    let founding = [&[1][..], &77_u64.to_be_bytes(), &5_u32.to_be_bytes()].concat();
    frame(0x1e, &[&copies, &generation.to_be_bytes(), &founding, &members])
}

/// What is held of a ledger: two entries of it, and one that is lacking.
fn held(incarnation: u32, number: u32, state: u8) -> Vec<u8> {
    let numbers = |all: &[u32]| all.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>();
    let members = [&[2][..], &1_u64.to_be_bytes(), &9_u64.to_be_bytes()].concat();
    [numbers(&[incarnation, number]), members, vec![1, state], numbers(&[0, 3, 3]), vec![1], numbers(&[1, 2])].concat()
}

/// What a data node says after it registered.
pub(crate) fn of_node() -> Vec<Vec<u8>> {
    let members = [(1, 7, "data1"), (2, 7, "data2"), (9, 6, "nueve")];
    let gone = [&[0, 1][..], &3_u32.to_be_bytes(), &0_u32.to_be_bytes(), &4_u32.to_be_bytes()].concat();
    let none = [0_u8; 2];
    vec![
        frame(0x1a, &[&[0], &gone, &held(3, 4, 1), &held(3, 5, 2), &held(4, 0, 0), &held(4, 1, 3)]),
        roster([2, 2, 2], 1, &members[..2]),
        roster([3, 2, 2], 2, &members),
        frame(0x14, &[&[1], &[0; 40], &none]),
        frame(0x12, &[&1_u64.to_be_bytes(), &[0]]),
        frame(0x1a, &[&[0], &none, &held(3, 6, 1)]),
        frame(0x1c, &[&1_u32.to_be_bytes(), &[0; 8], &0_u32.to_be_bytes(), &9_u32.to_be_bytes()]),
        frame(0x17, &[&1_u32.to_be_bytes(), &[0; 12], &[0; 12], &[0; 4], b"no line\n"]),
        frame(0x27, &[&1_u32.to_be_bytes(), &[0], &[0]]),
        frame(0x0a, &[&1_u64.to_be_bytes()]),
        frame(0x15, &[]),
    ]
}

/// Sessions of everybody who may come, without a key.
pub(crate) fn sessions() -> Vec<Session> {
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let opened = |third: &str, frames: &[Vec<u8>]| [&words(&["peticion acopio/2\n", third]), frames].concat();
    let message = |seq: u64| [&seq.to_be_bytes()[..], &[0, 2], &[0, 0, 0, 4], b"hola", &[0; 4]].concat();
    let hello = frame(0x01, &[&7_u64.to_be_bytes(), &[0]]);
    let read = |follow: u8, sources: &[u8]| {
        frame(0x0b, &[&[0; 12], &9_u64.to_be_bytes(), &[0; 4], &[0xff; 8], &[follow, 0], sources])
    };
    let all = [
        ("raw", words(&["peticion", "hola"])),
        ("lines", words(&["peticion\n", "hola\n", "adios\r\n"])),
        ("a named source", words(&["peticion taller/horno cr varios\n", "20.5\r", "21\n"])),
        ("a late name", words(&["peticion", "cliente taller/horno numerado\n"])),
        ("lines with a token", words(&["peticion taller/horno token=0123456789abcdef0123456789abcdef\n", "20.5\n"])),
        ("a text node", words(&["peticion\n", "dataNode\n", "confirmacion\n"])),
        (
            "frames",
            opened(
                "cliente\n",
                &[
                    hello.clone(),
                    frame(0x03, &[&message(1)]),
                    frame(0x24, &[&text("taller/horno"), &message(3)]),
                    frame(0x09, &[&4_u64.to_be_bytes()]),
                    frame(0x06, &[]),
                ],
            ),
        ),
        (
            "frames with a token",
            opened("cliente taller token=0123456789abcdef0123456789abcdef\n", &[hello, frame(0x03, &[&message(1)])]),
        ),
        ("a reader", opened("cliente\n", &[read(0, &[0, 0])])),
        ("a follower", opened("cliente\n", &[read(1, &[&[0, 1][..], &text("taller/")].concat())])),
        (
            "an operator",
            opened(
                "cliente\n",
                &[
                    frame(0x25, &[&[0, 0], &[0, 9]]),
                    frame(0x0f, &[&[0, 0], &text("nobody")]),
                    frame(0x23, &[&[2, 1]]),
                    frame(0x06, &[&[3]]),
                ],
            ),
        ),
        ("a data node", opened("dataNode\n", &[&[register(9, "nueve")][..], &of_node()].concat())),
        ("TLS", vec![b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03".to_vec()]),
    ];
    all.into_iter().map(|(name, parts)| Session { name, parts }).collect()
}

/// One of the sessions, changed in up to [`CHANGES_MAX`] places; now and then in none.
pub(crate) fn changed(rng: &mut SmallRng, sessions: &[Session]) -> Session {
    let mut session = one(rng, sessions).cloned().unwrap_or(Session { name: "none", parts: Vec::new() });
    for _ in 0..rng.random_range(0..=CHANGES_MAX) {
        change(rng, &mut session.parts, sessions);
        // Copies of copies would grow without end.
        if session.parts.iter().map(Vec::len).sum::<usize>() > SESSION_BYTES_MAX {
            session.parts.truncate(1);
        }
    }
    session
}

/// The bytes of a session as they arrive: in packets that begin and end anywhere.
pub(crate) fn packets(rng: &mut SmallRng, session: &Session) -> Vec<Vec<u8>> {
    if rng.random_range(0..4) == 0 {
        return session.parts.clone();
    }
    let bytes = session.parts.concat();
    let mut packets = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let most = if rng.random_range(0..8) == 0 { 3 } else { rest.len() };
        let (packet, behind) = rest.split_at(rng.random_range(1..=most.min(rest.len())));
        packets.push(packet.to_vec());
        rest = behind;
    }
    packets
}

fn one<'a, T>(rng: &mut SmallRng, all: &'a [T]) -> Option<&'a T> {
    all.get(rng.random_range(0..all.len().max(1)))
}

/// One change: to the order of the parts, or within a part.
fn change(rng: &mut SmallRng, parts: &mut Vec<Vec<u8>>, sessions: &[Session]) {
    // The words that open come first, and the fuzzer wants to get behind them.
    let first = if parts.len() > 2 && rng.random_range(0..8) > 0 { 2 } else { 0 };
    let at = rng.random_range(first..parts.len().max(first + 1));
    match rng.random_range(0..12) {
        0 if parts.len() > 1 => drop(parts.remove(at)),
        1 => {
            if let Some(part) = parts.get(at).cloned() {
                let to = rng.random_range(first..=parts.len());
                (0..rng.random_range(1..4)).for_each(|_| parts.insert(to.min(parts.len()), part.clone()));
            }
        }
        2 if !parts.is_empty() => {
            let other = rng.random_range(first..parts.len());
            parts.swap(at, other);
        }
        3 => {
            // A word or a frame of somebody else.
            let part = one(rng, sessions).and_then(|other| one(rng, &other.parts)).cloned().unwrap_or_default();
            parts.insert(at.min(parts.len()), part);
        }
        _ => {
            if let Some(part) = parts.get_mut(at) {
                change_part(rng, part);
            }
        }
    }
}

fn change_part(rng: &mut SmallRng, part: &mut Vec<u8>) {
    let at = rng.random_range(0..part.len().max(1));
    match rng.random_range(0..10) {
        0 => part.truncate(at),
        1 => {
            let end = rng.random_range(at..=part.len().max(at));
            drop(part.drain(at.min(part.len())..end.min(part.len())));
        }
        2 => {
            let bytes: Vec<u8> = (0..rng.random_range(1..20)).map(|_| rng.random()).collect();
            part.splice(at.min(part.len())..at.min(part.len()), bytes);
        }
        3 => {
            let copy = part.get(at..).unwrap_or_default().to_vec();
            part.extend(copy);
        }
        // A length, a count or a number that is not what it was.
        4 => put(rng, part, 0),
        5 => put(rng, part, at),
        6 => {
            // Changed within, and as long as it says.
            let bytes: Vec<u8> = (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
            part.extend(bytes);
            agree(part);
        }
        7 => {
            part.truncate(at.max(5));
            agree(part);
        }
        // A letter or a digit is another one: a name, or a secret, that is nearly right.
        8 => {
            let from = part.iter().position(|byte| *byte == b'=').unwrap_or(at);
            let at = rng.random_range(from..part.len().max(from + 1));
            let other = one(rng, b"0123456789abcdef").copied().unwrap_or(b'0');
            part.iter_mut().skip(at).take(1).filter(|byte| byte.is_ascii_alphanumeric()).for_each(|byte| *byte = other);
        }
        _ => {
            if let Some(byte) = part.get_mut(at) {
                *byte = if rng.random() { *byte ^ (1 << rng.random_range(0..8)) } else { rng.random() };
            }
        }
    }
}

/// Has a frame's length say how long it is.
fn agree(part: &mut [u8]) {
    let length = u32::try_from(part.len().saturating_sub(4)).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(prefix) = part.first_chunk_mut::<4>() {
        *prefix = length;
    }
}

/// A number at the edge of what there is, in one, two, four or eight bytes.
fn put(rng: &mut SmallRng, part: &mut [u8], at: usize) {
    let edges: [u64; 12] = [0, 1, 2, 0x7f, 0xff, 0x100, 0xffff, 1 << 20, 1 << 30, u32::MAX as u64, 1 << 60, u64::MAX];
    let near = rng.random_range(0..3_u64);
    let number = one(rng, &edges).map_or(0, |edge| edge.wrapping_add(near).wrapping_sub(1));
    let bytes = 1_usize << rng.random_range(0..4);
    let bytes = if at == 0 { 4 } else { bytes };
    let from = number.to_be_bytes();
    let from = from.get(8 - bytes..).unwrap_or_default();
    part.iter_mut().skip(at).zip(from).for_each(|(to, from)| *to = *from);
}
