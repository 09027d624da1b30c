//! What `up` tells its page `/clase`: who is there and how, the messages on their way, what was done, and what came of it.
//!
//! It goes over a pipe to the process that serves the page, and orders come back over another one: who has neither of them
//! can do nothing.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use serde_json::{Value, json};

use super::control::Control;
use super::plan::{Kind, Member};
use super::readback::Found;
use super::tail::{Tail, lock};
use super::ways::Ways;
use crate::limits;

/// Puts the state together.
pub(crate) struct Classroom {
    control: Rc<Control>,
    ways: Arc<Mutex<Ways>>,
    found: Rc<RefCell<Found>>,
    heartbeats: Vec<Tail>,
    /// The last lines of these.
    lines: VecDeque<String>,
}

impl Classroom {
    pub(crate) fn new(control: Rc<Control>, ways: Arc<Mutex<Ways>>, found: Rc<RefCell<Found>>) -> Self {
        let heads = control.shared().members.iter().filter(|member| member.kind == Kind::Head);
        let heartbeats = heads.map(|head| Tail::at_end(head.dir.join("heartbeat.log"))).collect();
        Self { control, ways, found, heartbeats, lines: VecDeque::new() }
    }

    /// The state of now, in one line of JSON.
    pub(crate) fn state(&mut self, now: SystemTime) -> String {
        for tail in &mut self.heartbeats {
            // A log that can't be read now is told of by who writes it.
            self.lines.extend(tail.lines().unwrap_or_default());
        }
        while self.lines.len() > limits::UP_SAID_MAX {
            self.lines.pop_front();
        }
        let ways = lock(&self.ways);
        let of = |kind| self.control.shared().members.iter().filter(move |member| member.kind == kind);
        let clients: Vec<Value> =
            of(Kind::Client).map(|member| self.member(member, ways.client_json(&member.name, now))).collect();
        let heads: Vec<Value> = of(Kind::Head).map(|member| self.member(member, json!({}))).collect();
        let nodes = of(Kind::Data).map(|member| {
            let sync = member.value("--sync").map(|sync| sync.to_string_lossy());
            self.member(member, json!({ "cut": self.control.is_cut(&member.name), "sync": sync }))
        });
        let nodes: Vec<Value> = nodes.collect();
        let counts = ways.counts();
        json!({
            "clients": clients, "heads": heads, "nodes": nodes, "ways": ways.json(),
            "counts": {
                "sent": counts.sent, "acknowledged": counts.acknowledged, "refused": counts.refused,
                "in_flight": counts.in_flight, "found": *self.found.borrow(),
            },
            "said": self.control.shared().said(), "heartbeat": self.lines,
        })
        .to_string()
    }

    fn member(&self, member: &Member, mut more: Value) -> Value {
        if let Some(members) = more.as_object_mut() {
            members.insert("name".to_owned(), member.name.as_str().into());
            members.insert("pid".to_owned(), self.control.shared().pid(member).into());
            members.insert("condition".to_owned(), json!(self.control.shared().condition(&member.name)));
        }
        more
    }
}
