//! A head's door in memory: the checks that a connection passes, in the order of `connection`, `framed_client` and `node`,
//! and what has to hold at each.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::BytesMut;

use crate::head::gate::{Awaited, Claim, Gate};
use crate::ledger::frames;
use crate::ledger::heard::{Heard, Registered};
use crate::ledger::note::{Folded, Note};
use crate::ledger::roster::Roster;
use crate::ledger::text;
use crate::limits::{HANDSHAKE_BYTES_MAX, LINES_FRAME_BYTES_MAX, NODE_NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::tokens::{SecretHash, Tokens};
use crate::wire::error::{Code, Refusal};
use crate::wire::frame::Frame;
use crate::wire::handshake::{Handshake, Opening, Role, Step};
use crate::wire::ledger::NodeId;
use crate::wire::peer::is_name;
use crate::wire::text::Dialect;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Why a connection is closed.
#[derive(Debug)]
pub(super) enum End {
    /// The handshake failed.
    Handshake,
    /// It has a token that the head does not know, or none where it needs one.
    Token,
    /// What it said is no frame, or none that it may say, or does not fit.
    Refused(Refusal),
}

/// Where a connection is.
#[derive(Debug)]
enum At {
    Handshake(Handshake),
    Text,
    Client {
        hello: bool,
    },
    /// It is to register, and may have knocked.
    Node(Option<Frame>),
    /// It said these, and is to prove that it has the key.
    Proving {
        knock: Frame,
        register: Frame,
        awaited: Box<Awaited>,
    },
    Member {
        node: NodeId,
        heard: Box<Heard>,
    },
}

/// What a connection came to.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// It was let in with the right token.
    pub(super) token: bool,
    /// It registered, with these words if it had to prove them.
    pub(super) registered: Option<Option<(Frame, Frame)>>,
    /// Messages that would have been stored.
    pub(super) messages: usize,
    /// Rosters that were believed.
    pub(super) rosters: usize,
    /// Frames of any kind.
    pub(super) frames: usize,
}

/// One connection.
pub(super) struct Door<'a> {
    gate: &'a Gate,
    tokens: &'a Tokens,
    at: At,
    buffer: BytesMut,
    fed: usize,
    pub(super) came: Came,
}

impl<'a> Door<'a> {
    pub(super) fn new(gate: &'a Gate, tokens: &'a Tokens) -> Self {
        let at = At::Handshake(Handshake::new());
        Self { gate, tokens, at, buffer: BytesMut::new(), fed: 0, came: Came::default() }
    }

    /// Takes in what arrived.
    pub(super) fn feed(&mut self, packet: &[u8]) -> Result<(), End> {
        self.buffer.extend_from_slice(packet);
        self.fed += packet.len();
        while self.step()? {}
        // Nothing is kept beyond what came and the frame that is on its way.
        assert!(self.buffer.len() <= self.fed);
        assert!(
            self.buffer.capacity() <= 2 * (self.fed + 4 + LINES_FRAME_BYTES_MAX) + 64,
            "{}",
            self.buffer.capacity()
        );
        Ok(())
    }

    /// Deals with one word or frame; whether there may be another one.
    fn step(&mut self) -> Result<bool, End> {
        match &mut self.at {
            At::Handshake(handshake) => match handshake.feed(&mut self.buffer) {
                Ok(Step::More) => {
                    let waits = !handshake.may_stay_silent();
                    assert!(
                        !waits || self.buffer.len() <= 2 * HANDSHAKE_BYTES_MAX,
                        "nothing is waited for without end"
                    );
                    Ok(false)
                }
                Ok(Step::Send(_)) => Ok(true),
                Ok(Step::Done(opening)) => self.opened(&opening).map(|()| true),
                Err(error) => {
                    let line = error.line();
                    assert!(
                        line.starts_with("error: ") && line.len() <= TEXT_BYTES_MAX && is_one_line(line.trim_end())
                    );
                    Err(End::Handshake)
                }
            },
            // Every byte is a message's: `text_client` cuts lines at their bound.
            At::Text => {
                self.buffer.clear();
                Ok(false)
            }
            At::Client { hello } => {
                if let Some(kind) = Frame::not_from_client(&self.buffer, *hello) {
                    return Err(refused(Refusal::new(Code::Protocol, format!("frame {kind:#04x} is out of place"))));
                }
                let Some(frame) = decoded(&mut self.buffer)? else { return Ok(false) };
                self.came.frames += 1;
                match frame {
                    Frame::Hello { .. } => *hello = true,
                    Frame::Store { messages, .. } => {
                        assert!(*hello);
                        self.came.messages += usize::from(messages.count());
                    }
                    Frame::Drain { .. } | Frame::Copies { .. } => {
                        let asked = self.gate.challenge(HERE, None, Claim::Change, "acopio", &frame, None);
                        assert_eq!(asked.is_err(), self.gate.everybody, "nobody changes anything without a proof");
                        asked.map_err(refused)?;
                    }
                    _ => {}
                }
                Ok(true)
            }
            _ => self.of_node(),
        }
    }

    fn opened(&mut self, opening: &Opening) -> Result<(), End> {
        if let Some(secret) = &opening.token {
            let known = self.tokens.of_secret(&SecretHash::of(secret));
            let is_right = secret.expose() == super::mutate::SECRET.as_bytes();
            assert_eq!(known.is_some(), is_right, "a token is good to the last digit");
            self.came.token = known.is_some();
            known.ok_or(End::Token)?;
        }
        self.at = match (opening.dialect, opening.role) {
            (Dialect::Framed, Role::Client) => At::Client { hello: false },
            (Dialect::Framed, Role::DataNode) => At::Node(None),
            (_, Role::DataNode) => {
                self.gate.admit_text_node(HERE).map_err(refused)?;
                assert!(!self.gate.everybody);
                At::Text
            }
            (_, Role::Client) => At::Text,
        };
        Ok(())
    }

    fn of_node(&mut self) -> Result<bool, End> {
        let Some(frame) = decoded(&mut self.buffer)? else { return Ok(false) };
        self.came.frames += 1;
        let out_of_place = |frame: &Frame| {
            refused(Refusal::new(
                Code::Protocol,
                format!("frame {:#04x} is out of place from a dataNode", frame.kind()),
            ))
        };
        match &mut self.at {
            At::Node(knock @ None) if matches!(frame, Frame::Knock(_)) => *knock = Some(frame),
            At::Node(knock) => {
                let Frame::Register { node, name, .. } = &frame else { return Err(out_of_place(&frame)) };
                if !is_name(name, NODE_NAME_BYTES_MAX) {
                    return Err(refused(Refusal::new(Code::Protocol, "a name that is none")));
                }
                let knocked =
                    knock.as_ref().and_then(|knock| if let Frame::Knock(knock) = knock { Some(*knock) } else { None });
                let awaited =
                    self.gate.challenge(HERE, knocked, Claim::Node(name), "acopio", &frame, None).map_err(refused)?;
                match (awaited, knock.take()) {
                    (Some(awaited), Some(knock)) => {
                        self.at = At::Proving { knock, register: frame, awaited: Box::new(awaited) };
                    }
                    (None, None) => {
                        assert!(!self.gate.everybody, "nobody is let in without a proof where one is asked for");
                        self.came.registered = Some(None);
                        self.at = member(*node, name)?;
                    }
                    other => panic!("{other:?}"),
                }
            }
            At::Proving { knock, register, awaited } => {
                let Frame::Proof(proof) = &frame else { return Err(out_of_place(&frame)) };
                awaited.check(proof).map_err(refused)?;
                let Frame::Register { node, name, .. } = register else { panic!("{register:?}") };
                let next = member(*node, name)?;
                self.came.registered = Some(Some((knock.clone(), register.clone())));
                self.at = next;
            }
            At::Member { node, heard } => match frame {
                Frame::Roster(told) => {
                    let roster = frames::of_roster(told).map_err(|error| protocol(&error))?;
                    let before = heard.roster().clone();
                    heard.noted(*node, roster).map_err(|error| protocol(&error))?;
                    self.came.rosters += 1;
                    settle(heard, &before);
                }
                Frame::Holds { more, gone, held } => {
                    let before = heard.roster().clone();
                    heard.holds(*node, !more, frames::reports(gone, held));
                    settle(heard, &before);
                }
                Frame::PutAck { .. }
                | Frame::PutRefused { .. }
                | Frame::Ping(_)
                | Frame::Pong(_)
                | Frame::NodeState(_)
                | Frame::Fetch { .. }
                | Frame::Fetched { .. }
                | Frame::Pushed { .. }
                | Frame::SourcesPage { .. }
                | Frame::Page { .. }
                | Frame::ScanFailed { .. }
                | Frame::Leave => {}
                Frame::Failure(refusal) => return Err(refused(refusal)),
                other => return Err(out_of_place(&other)),
            },
            other => panic!("{other:?}"),
        }
        Ok(true)
    }
}

fn is_one_line(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(char::is_control)
}

/// What a refusal has to be: some words, which fit a frame.
fn refused(refusal: Refusal) -> End {
    assert!(
        !refusal.text.is_empty() && refusal.text.len() <= TEXT_BYTES_MAX || refusal.code == Code::Unproven,
        "{refusal}"
    );
    Frame::Failure(refusal.clone()).encode(&mut BytesMut::new()).unwrap();
    End::Refused(refusal)
}

fn protocol(error: &dyn std::fmt::Display) -> End {
    let text = error.to_string();
    assert!(is_one_line(&text));
    refused(Refusal::new(Code::Protocol, text))
}

/// The next frame: it obeys every bound, so it can be said again, and is then understood as the same.
fn decoded(buffer: &mut BytesMut) -> Result<Option<Frame>, End> {
    let frame = match Frame::decode(buffer) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Ok(None),
        Err(error) => {
            assert!(is_one_line(&error.to_string()));
            return Err(refused(error.refusal()));
        }
    };
    let mut again = BytesMut::new();
    frame.encode(&mut again).unwrap();
    assert!(again.len() <= 4 + LINES_FRAME_BYTES_MAX);
    assert_eq!(Frame::decode(&mut again).unwrap().as_ref(), Some(&frame));
    Ok(Some(frame))
}

/// A head that knows two data nodes, and now takes in a third one.
fn member(node: NodeId, name: &str) -> Result<At, End> {
    let mut told = BytesMut::from(super::roster_of_two().as_slice());
    let Ok(Some(Frame::Roster(told))) = Frame::decode(&mut told) else { panic!("no roster") };
    let roster = frames::of_roster(told).unwrap();
    let mut heard = Heard::new(roster.clone(), Duration::from_secs(60));
    for (node, name) in [(NodeId(1), "data1"), (NodeId(2), "data2"), (node, name)] {
        let new = Registered { node, name: name.into(), replaces: None, writable: true, joins: true };
        if heard.registered(new).is_err() {
            return Err(refused(Refusal::new(Code::Role, "it is here already")));
        }
        if node.0 < 3 {
            heard.noted(node, roster.clone()).unwrap();
            heard.holds(node, true, Vec::new());
        }
    }
    Ok(At::Member { node, heard: Box::new(heard) })
}

/// Has the head decide, and everybody note; what it believes then has to be more than before, and such that others believe
/// it, and that it is read back from a file as it was written.
fn settle(heard: &mut Heard, before: &Roster) {
    for round in 1..4 {
        heard.round(Duration::from_secs(round), 64);
        let present: Vec<NodeId> = heard.present().collect();
        for node in present {
            if let Some(roster) = heard.to_note(node).cloned() {
                heard.noted(node, roster).unwrap();
            }
        }
    }
    assert!(heard.roster().covers(before), "a roster only grows");
    assert!(heard.opens_on().is_some_and(|on| on.least >= 1 && on.members <= crate::limits::REPLICAS_MAX));
    assert!(heard.usables().iter().all(|&node| heard.roster().generation(node).gets_ledgers()));
    assert!(heard.lacking().iter().all(|(_, range)| range.start < range.end));
    assert_eq!(frames::of_roster(frames::roster(heard.roster())).as_ref(), Ok(heard.roster()));
    let mut lines = String::new();
    text::write(&mut lines, &Note::of_roster(heard.roster()));
    let mut read = Folded::default();
    for line in lines.lines() {
        let mut words = text::Words::new(text::open(line).unwrap());
        let word = words.next().unwrap();
        read.add(text::parse(word, &mut words).unwrap()).unwrap();
        assert!(words.is_over(), "{line}");
    }
    // A name of one dash stands for none.
    if heard.roster().identities().all(|(_, record)| &*record.name != text::NONE) {
        assert_eq!(&read.roster, heard.roster());
    }
}
