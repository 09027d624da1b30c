//! Reads for somebody who asked: what `acopio read` prints, sent as it is read. Who takes slowly slows his read alone:
//! nothing is read ahead but one piece.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_core::Stream;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Web;
use super::question::{Form, Question};
use crate::client::reader::{self, Config, Event, Message, Query, ReadError};
use crate::limits;
use crate::table::format::Format;
use crate::table::moment::Zone;
use crate::table::readings::Readings;
use crate::table::shape::{Shape, Wanted};
use crate::wire::id::RecordId;

/// The pieces of an answer, or why there are no more.
type Piece = Result<Bytes, String>;

/// An answer that is sent while it is made.
pub(crate) struct Pieces {
    first: Option<Bytes>,
    rest: mpsc::Receiver<Piece>,
}

impl Pieces {
    /// What a task makes; it ends when nobody takes it any more. Waits for the first piece.
    ///
    /// # Errors
    /// The task's, if it came to nothing at all.
    pub(crate) async fn of<F>(make: impl FnOnce(Out) -> F) -> Result<Self, String>
    where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let (sender, mut rest) = mpsc::channel(1);
        let made = make(Out(sender.clone()));
        tokio::spawn(async move {
            let ended = tokio::select! {
                biased;
                () = sender.closed() => return,
                ended = made => ended,
            };
            if let Err(cause) = ended {
                // Who asked may be gone.
                drop(sender.send(Err(cause)).await);
            }
        });
        match rest.recv().await {
            Some(Err(cause)) => Err(cause),
            first => Ok(Self { first: first.and_then(Result::ok), rest }),
        }
    }
}

impl Stream for Pieces {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        self.rest.poll_recv(cx).map(|piece| piece.map(|piece| piece.map_err(io::Error::other)))
    }
}

/// Where a task sends its pieces.
#[derive(Clone)]
pub(crate) struct Out(mpsc::Sender<Piece>);

impl Out {
    /// Sends a piece, once there is room for it.
    ///
    /// # Errors
    /// Nobody takes it any more.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> Result<(), String> {
        self.0.send(Ok(piece.into())).await.map_err(|_| "nobody reads the answer any more".to_owned())
    }
}

/// Reads the corrections of what a query asks for.
pub(crate) async fn look_for_notes(readings: &mut Readings, config: &Config, query: &Query) -> Result<(), String> {
    let mut reader = reader::read(config.clone(), Query { partial: true, ..Readings::of_notes(query) });
    while let Some(event) = reader.next().await {
        match event {
            Ok(Event::Message(message)) => readings.take_note(&message),
            Ok(_) | Err(ReadError::Line { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(())
}

/// A read of messages.
pub(crate) struct Messages {
    question: Question,
    shape: Shape,
    config: Config,
    /// What is made and not sent.
    buffer: Vec<u8>,
    /// What one message makes.
    lines: Vec<u8>,
    rows: u64,
    /// Its place among the reads.
    _place: OwnedSemaphorePermit,
}

/// Where a read ended.
#[derive(Default)]
struct Ended {
    next: Option<RecordId>,
    more: bool,
    missing: Vec<String>,
    damaged: u64,
}

impl Messages {
    /// Of this question.
    ///
    /// # Errors
    /// It contradicts itself.
    pub(crate) fn new(web: &Arc<Web>, question: Question, place: OwnedSemaphorePermit) -> Result<Self, String> {
        let (format, excel) = match question.form {
            Form::Json => (Format::Json, None),
            Form::Of(format) => (format, None),
            Form::Excel(excel) => (Format::Csv, Some(excel)),
        };
        let wanted = Wanted {
            format,
            excel,
            fields: question.fields.clone(),
            long: question.long,
            every: question.every,
            aggregate: question.aggregate,
            by_device: question.every.is_some(),
            follow: false,
            zone: Zone::utc(),
            rules: web.rules.clone(),
        };
        wanted.check()?;
        let (most, limit) = (limits::WEB_MESSAGES_MAX, question.limit.unwrap_or(0));
        if question.form == Form::Json && limit > most {
            return Err(format!("limit: {limit} is more than the {most} of one answer in json; ask for ndjson"));
        }
        let shape = Shape::new(wanted).map_err(|error| error.to_string())?;
        let (config, buffer, lines) = (web.reads(), Vec::new(), Vec::new());
        Ok(Self { question, shape, config, buffer, lines, rows: 0, _place: place })
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// Why there is no more.
    pub(crate) async fn run(mut self, out: Out) -> Result<(), String> {
        if let Some(readings) = self.shape.readings() {
            look_for_notes(readings, &self.config, &self.question.query).await?;
        }
        let is_json = self.question.form == Form::Json;
        if is_json {
            self.buffer.extend_from_slice(b"{\"messages\":[");
        } else {
            self.shape.header(&mut self.buffer);
        }
        let ended = self.read(&out).await?;
        self.shape.end(&mut self.lines).map_err(|error| error.to_string())?;
        self.take_lines();
        if is_json {
            let Ended { next, more, missing, damaged } = ended;
            let next = next.map(|next| next.to_string());
            let told = json!({ "next": next, "more": more, "missing": missing, "damaged": damaged }).to_string();
            self.buffer.push(b']');
            self.buffer.push(b',');
            self.buffer.extend_from_slice(told.trim_start_matches('{').as_bytes());
        }
        out.send(self.buffer).await
    }

    async fn read(&mut self, out: &Out) -> Result<Ended, String> {
        let (mut query, wanted) = (self.question.query.clone(), self.question.wanted.clone());
        let (mut skip, mut ended) = (0, Ended::default());
        if let Some(n) = self.question.last {
            let counts =
                |event: &Event| matches!(event, Event::Message(message) if wanted.wants(message.source.as_ref()));
            let found = reader::find_last(&self.config, &query, n, counts).await.map_err(|error| error.to_string())?;
            (query.from, query.until, skip) = (found.from, found.until, found.skip);
        }
        let mut left = self.question.limit.unwrap_or(u64::MAX);
        let mut reader = reader::read(self.config.clone(), query);
        while let Some(event) = reader.next().await {
            match event {
                Ok(Event::Message(message)) if !wanted.wants(message.source.as_ref()) => {}
                Ok(Event::Message(_)) if skip > 0 => skip -= 1,
                Ok(Event::Message(_)) if left == 0 => {
                    ended.more = true;
                    break;
                }
                Ok(Event::Message(message)) => {
                    left -= 1;
                    ended.next = Some(message.id);
                    self.message(&message, out).await?;
                }
                Ok(Event::End { missing, .. }) => ended.missing = missing,
                Ok(Event::Waiting { .. } | Event::Lost { .. }) => {}
                Err(ReadError::Line { .. }) => ended.damaged += 1,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(ended)
    }

    async fn message(&mut self, message: &Message, out: &Out) -> Result<(), String> {
        self.shape.message(&mut self.lines, message).map_err(|error| error.to_string())?;
        self.take_lines();
        if self.buffer.len() >= limits::WEB_CHUNK_BYTES {
            out.send(std::mem::take(&mut self.buffer)).await?;
        }
        Ok(())
    }

    /// Lines as they are, or as members of an array.
    fn take_lines(&mut self) {
        if self.question.form != Form::Json {
            self.buffer.append(&mut self.lines);
            return;
        }
        for line in self.lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if self.rows > 0 {
                self.buffer.push(b',');
            }
            self.rows += 1;
            self.buffer.extend_from_slice(line);
        }
        self.lines.clear();
    }
}
