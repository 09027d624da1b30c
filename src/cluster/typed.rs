//! What a person types at the terminal on which a cluster is shown, line by line.
//!
//! Only a terminal is read: what a script has on its standard input is not ours to take. Nor is what is typed while another
//! process is in the foreground: a read would stop this one.

use std::io::{self, BufRead as _, IsTerminal as _};
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::limits;

/// The lines that are typed from now on, without their newlines; none where standard input is no terminal.
pub(crate) fn lines() -> Receiver<String> {
    let (sender, receiver) = channel(1);
    if io::stdin().is_terminal() {
        // Without a thread to spare nothing can be typed; the cluster runs all the same.
        let started = thread::Builder::new().name("typed".to_owned()).spawn(move || read(&sender));
        if let Err(error) = started {
            tracing::debug!("what is typed is not read: {error}");
        }
    }
    receiver
}

fn read(sender: &Sender<String>) {
    loop {
        let stdin = io::stdin();
        if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None).is_err() {
            return;
        }
        if tcgetpgrp(&stdin).is_ok_and(|foreground| foreground != getpgrp()) {
            thread::sleep(limits::TAIL_EVERY);
            continue;
        }
        let mut line = String::new();
        match stdin.lock().read_line(&mut line) {
            Ok(1..) if sender.blocking_send(line.trim_end().to_owned()).is_ok() => {}
            _ => return,
        }
    }
}
