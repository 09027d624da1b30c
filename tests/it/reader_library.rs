//! The reader of the client library against heads that are lost, hang, refuse, lie, or wait for their nodes.

use std::pin::Pin;
use std::time::Duration;

use crate::fake_head::{FakeHead, PATIENCE, id, line};
use acopio::client::reader::{Config, Event, Last, Query, ReadError, Reader, find_last, read};
use acopio::limits;
use acopio::wire::error::{Code, Refusal};
use acopio::wire::frame::Frame;
use acopio::wire::id::{ClientId, RecordId};
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::timeout;

const TEXT: ClientId = ClientId::of_connection(5);
const LIBRARY: ClientId = ClientId::of_library(6);

/// Lines at these milliseconds, numbered from 1.
fn lines(client: ClientId, ms: &[u64]) -> Vec<Bytes> {
    (1..).zip(ms).map(|(seq, ms)| line(*ms, client, seq, format!("m{ms}").as_bytes())).collect()
}

fn heads(heads: &[&FakeHead]) -> Vec<String> {
    heads.iter().map(|head| head.at.clone()).collect()
}

/// Runs a head's script on a thread, from now on, while the reader reads.
fn beside<T: Send + 'static>(script: impl FnOnce() -> T + Send + 'static) -> impl Future<Output = T> {
    let running = tokio::task::spawn_blocking(script);
    async { running.await.expect("the head's script") }
}

async fn next(reader: &mut Reader) -> Option<Result<Event, ReadError>> {
    timeout(PATIENCE, reader.next()).await.expect("something happens")
}

/// Everything to the end, in words.
async fn all(reader: &mut Reader) -> Vec<String> {
    let mut told = Vec::new();
    while let Some(event) = next(reader).await {
        told.push(match event {
            Ok(Event::Message(message)) => message.text().to_owned(),
            Ok(Event::Waiting { nodes }) => format!("waiting {}", nodes.join(" ")),
            Ok(Event::Lost { .. }) => "lost".to_owned(),
            Ok(Event::End { missing, .. }) => format!("end {}", missing.join(" ")).trim_end().to_owned(),
            Err(error) => format!("error {error}"),
        });
    }
    told
}

fn assert_send_stream<T: Stream + Send + Unpin>(_: &T) {}

#[tokio::test]
async fn it_delivers_all_there_is_and_then_the_end() {
    let head = FakeHead::new();
    let query = Query { from: id(1000), until: id(9000), client: Some(TEXT), ..Query::default() };
    let mut reader = read(heads(&[&head]), query);
    assert_send_stream(&reader);
    let script = beside(move || {
        let mut asked = head.accept();
        assert_eq!((asked.query.from, asked.query.until, asked.query.client), (id(1000), id(9000), Some(TEXT)));
        asked.records(id(2001), &lines(TEXT, &[1000, 2000]));
        asked.records(id(3000), &[]);
        asked.records(id(8000), &lines(TEXT, &[5000]));
        asked.end(id(9000), "");
        asked.closed();
    });
    let mut got = Vec::new();
    for _ in 0..4 {
        // As a stream.
        let event = timeout(PATIENCE, std::future::poll_fn(|cx| Pin::new(&mut reader).poll_next(cx))).await.unwrap();
        got.push(event.unwrap().unwrap());
    }
    let [Event::Message(first), Event::Message(_), Event::Message(last), Event::End { next: end, missing }] = &got[..]
    else {
        panic!("{got:?}")
    };
    assert_eq!((first.id, first.seq, first.payload.as_ref()), (id(1000), 1, &b"m1000"[..]));
    assert_eq!((last.id, *end, missing.len()), (id(5000), id(9000), 0));
    assert!(next(&mut reader).await.is_none() && next(&mut reader).await.is_none());
    script.await;
}

#[tokio::test]
async fn a_lost_head_is_gone_on_from_at_the_next_where_it_was() {
    let (one, two) = (FakeHead::new(), FakeHead::new());
    let mut reader = read(heads(&[&one, &two]), Query { client: Some(TEXT), follow: true, ..Query::default() });
    let script = beside(move || {
        let mut asked = one.accept();
        asked.records(id(21), &lines(TEXT, &[10, 20]));
        // Half a frame is worth nothing.
        asked.raw(&[0, 0, 1, 0, 0x0c, 1, 2, 3]).unwrap();
        drop(asked);
        let mut asked = two.accept();
        assert!(asked.query.from == id(21) && asked.query.follow);
        asked.records(id(31), &lines(TEXT, &[25, 30]));
        // A head that ends what has no end has stopped reading.
        asked.end(id(31), "");
        let mut asked = one.accept();
        assert_eq!(asked.query.from, id(31));
        asked.records(id(41), &lines(TEXT, &[40]));
        asked.closed();
    });
    let mut got = Vec::new();
    while got.len() < 7 {
        match next(&mut reader).await.unwrap().unwrap() {
            Event::Message(message) => got.push(message.text().to_owned()),
            Event::Lost { head, cause } => got.push(format!("lost {} {cause}", usize::from(head == "x"))),
            other => panic!("{other:?}"),
        }
    }
    let lost = "lost 0 it closed the connection";
    assert_eq!(got, ["m10", "m20", lost, "m25", "m30", lost, "m40"]);
    drop(reader);
    script.await;
}

#[tokio::test]
async fn what_two_heads_both_send_comes_once() {
    let (one, two) = (FakeHead::new(), FakeHead::new());
    let mut reader = read(heads(&[&one, &two]), Query::default());
    let script = beside(move || {
        let mut asked = one.accept();
        assert_eq!(asked.query.from, RecordId::ZERO);
        // It says less than it could of how far it has come.
        asked.records(id(10), &lines(TEXT, &[10, 20]));
        drop(asked);
        let mut asked = two.accept();
        assert_eq!(asked.query.from, id(10));
        asked.records(id(31), &lines(TEXT, &[10, 20, 30]));
        asked.end(id(31), "");
        asked.closed();
    });
    assert_eq!(all(&mut reader).await, ["m10", "m20", "lost", "m30", "end"]);
    script.await;
}

#[tokio::test]
async fn a_head_that_hangs_is_left_within_two_heartbeats() {
    let (one, two) = (FakeHead::new(), FakeHead::new());
    let mut reader = read(heads(&[&one, &two]), Query::default());
    let script = beside(move || {
        let mut hung = one.accept();
        hung.records(id(11), &lines(TEXT, &[10]));
        assert!(matches!(hung.frame(), Some(Frame::Ping(_))), "it asks first");
        let mut asked = two.accept();
        asked.records(id(21), &lines(TEXT, &[20]));
        asked.end(id(21), "");
        hung.closed();
    });
    assert_eq!(all(&mut reader).await, ["m10", "lost", "m20", "end"]);
    script.await;
}

#[tokio::test]
async fn a_head_that_waits_and_answers_is_not_left() {
    let head = FakeHead::new();
    let mut reader = read(heads(&[&head]), Query { follow: true, ..Query::default() });
    let script = beside(move || {
        let mut asked = head.accept();
        for _ in 0..2 {
            let Some(Frame::Ping(n)) = asked.frame() else { panic!("no ping") };
            asked.send(&Frame::Pong(n));
        }
        asked.records(id(11), &lines(TEXT, &[10]));
        asked.closed();
    });
    let Some(Ok(Event::Message(message))) = next(&mut reader).await else { panic!("no message") };
    assert_eq!(message.text(), "m10");
    drop(reader);
    script.await;
}

#[tokio::test]
async fn a_damaged_line_is_named_and_the_others_come() {
    let head = FakeHead::new();
    let at = head.at.clone();
    let mut reader = read(heads(&[&head]), Query::default());
    let script = beside(move || {
        let mut asked = head.accept();
        let mut three = lines(TEXT, &[10, 20, 30]);
        let mut damaged = three[1].to_vec();
        damaged[42] ^= 1;
        three[1] = damaged.into();
        asked.records(id(31), &three);
        asked.end(id(31), "");
        asked.closed();
    });
    let told = all(&mut reader).await;
    assert_eq!(
        (told.len(), told[0].as_str(), told[2].as_str(), told[3].as_str()),
        (4, "m10", "m30", "end"),
        "{told:?}"
    );
    let wanted = format!("error a line from head {at} that begins \"{}\" is damaged: the checksum", id(20));
    assert!(told[1].starts_with(&wanted), "{}", told[1]);
    script.await;
}

#[tokio::test]
async fn records_out_of_order_end_the_read() {
    let head = FakeHead::new();
    let mut reader = read(heads(&[&head]), Query::default());
    let script = beside(move || {
        let mut asked = head.accept();
        asked.records(id(31), &lines(TEXT, &[10, 30, 20]));
        asked.closed();
    });
    let told = all(&mut reader).await;
    assert_eq!(told[..2], ["m10", "m30"]);
    assert!(told[2].contains(&format!("sent record {} out of order", id(20))), "{told:?}");
    assert_eq!(told.len(), 3);
    script.await;
}

#[tokio::test]
async fn two_records_of_one_id_both_come_and_a_repeated_one_does_not() {
    for client in [TEXT, LIBRARY] {
        let (one, two) = (FakeHead::new(), FakeHead::new());
        let mut reader = read(heads(&[&one, &two]), Query::default());
        let script = beside(move || {
            let record = |ms, seq: u64, text: &str| line(ms, client, seq, text.as_bytes());
            let mut asked = one.accept();
            asked.records(id(20), &[record(10, 1, "uno"), record(20, 2, "dos")]);
            drop((asked, one));
            let mut asked = two.accept();
            assert!(asked.query.from <= id(20));
            let again = [record(20, 2, "dos"), record(20, 2, "otro"), record(30, 3, "tres"), record(30, 3, "tres")];
            asked.records(id(31), &again);
            asked.end(id(31), "");
            asked.closed();
        });
        assert_eq!(all(&mut reader).await, ["uno", "dos", "lost", "otro", "tres", "end"], "{client}");
        script.await;
    }
}

#[tokio::test]
async fn a_message_sent_again_comes_once_and_in_its_place() {
    let head = FakeHead::new();
    let mut reader = read(heads(&[&head]), Query { from: id(20), ..Query::default() });
    let script = beside(move || {
        let mut asked = head.accept();
        let warm_up = limits::READER_HOLD_TIME.as_nanos() as u64;
        assert_eq!(asked.query.from, RecordId { time_ns: id(20).time_ns - warm_up, incarnation: 0 });
        let record = |ms, seq: u64| line(ms, LIBRARY, seq, seq.to_string().as_bytes());
        let records =
            [record(10, 1), record(20, 3), record(30, 4), record(40, 1), record(50, 2), record(60, 3), record(70, 6)];
        asked.records(id(71), &records);
        asked.end(id(71), "");
        asked.closed();
    });
    assert_eq!(all(&mut reader).await, ["2", "3", "4", "6", "end"], "1 was there before");
    script.await;
}

#[tokio::test]
async fn a_reader_that_does_not_ask_stops_the_head_and_loses_nothing() {
    let head = FakeHead::new();
    let mut reader = read(heads(&[&head]), Query { follow: true, ..Query::default() });
    let script = beside(move || {
        let mut asked = head.accept();
        asked.write_timeout(Duration::from_secs(1));
        let payload = vec![b'x'; 50_000];
        let (mut sent, mut ms) = (0_usize, 0);
        loop {
            ms += 1;
            let mut out = bytes::BytesMut::new();
            let frame = Frame::Records { next: id(ms).next(), lines: line(ms, TEXT, ms, &payload) };
            frame.encode(&mut out).unwrap();
            if asked.raw(&out).is_err() {
                return (asked, sent);
            }
            sent += 1;
            assert!(sent < 2000, "100 MB are nowhere but in memory");
        }
    });
    let (asked, sent) = script.await;
    for seq in 1..=sent as u64 {
        let Some(Ok(Event::Message(message))) = next(&mut reader).await else { panic!("{seq} of {sent} is lost") };
        assert_eq!((message.seq, message.payload.len()), (seq, 50_000));
    }
    drop(asked);
}

#[tokio::test]
async fn missing_nodes_are_an_error_unless_it_may_be_partial() {
    for partial in [false, true] {
        let head = FakeHead::new();
        let mut reader = read(heads(&[&head]), Query { partial, ..Query::default() });
        let script = beside(move || {
            let mut asked = head.accept();
            assert_eq!(asked.query.partial, partial);
            asked.waiting("data2,data4");
            asked.waiting("");
            asked.records(id(11), &lines(TEXT, &[10]));
            asked.end(id(11), "data2,data4");
            asked.closed();
        });
        let told = all(&mut reader).await;
        assert_eq!(told[..3], ["waiting data2 data4", "waiting ", "m10"]);
        match partial {
            true => assert_eq!(told[3], "end data2 data4"),
            false => assert!(told[3].starts_with("error dataNodes data2, data4 are missing"), "{told:?}"),
        }
        script.await;
    }
}

/// Patient enough for a head that is there, on a busy machine, and no more.
fn soon(heads: Vec<String>) -> Config {
    trying_for(Duration::from_secs(10), heads)
}

fn trying_for(retry_for: Duration, heads: Vec<String>) -> Config {
    let mut config = Config::from(heads);
    config.retry_for = retry_for;
    config
}

#[tokio::test]
async fn a_wait_for_nodes_has_an_end() {
    let head = FakeHead::new();
    let mut reader = read(soon(heads(&[&head])), Query::default());
    let script = beside(move || {
        let mut asked = head.accept();
        asked.waiting("data2");
        asked.closed();
    });
    let told = all(&mut reader).await;
    assert!(told[0] == "waiting data2" && told[1].starts_with("error dataNode data2 is missing"), "{told:?}");
    script.await;
}

#[tokio::test]
async fn heads_that_do_not_answer_are_named_at_last() {
    let gone = FakeHead::new().at;
    let mut reader = read(soon(vec![gone.clone()]), Query::default());
    let told = all(&mut reader).await;
    let last = told.last().unwrap();
    assert!(
        told[0] == "lost" && last.starts_with("error nothing could be read for ") && last.contains(&gone),
        "{told:?}"
    );
    assert_eq!(all(&mut read(Vec::new(), Query::default())).await, ["error no head was named; name one"]);
}

#[tokio::test]
async fn a_refusal_asks_the_next_and_when_all_refuse_for_good_each_is_named() {
    let (one, two) = (FakeHead::new(), FakeHead::new());
    let at = [one.at.clone(), two.at.clone()];
    let mut reader = read(heads(&[&one, &two]), Query::default());
    let script = beside(move || {
        one.accept().send(&Frame::Failure(Refusal::new(Code::Busy, "too many; later")));
        two.accept().send(&Frame::Failure(Refusal::new(Code::Role, "not here; elsewhere")));
        one.accept().send(&Frame::Failure(Refusal::new(Code::Role, "nor here; elsewhere")));
    });
    let wanted = format!("error head {}: nor here; elsewhere; head {}: not here; elsewhere", at[0], at[1]);
    assert_eq!(all(&mut reader).await, ["lost".to_owned(), "lost".to_owned(), wanted]);
    script.await;
}

#[tokio::test]
async fn a_head_without_data_nodes_or_that_waits_for_them_is_left_for_one_that_has_them() {
    let goes_on = async |waiting: &'static str, follow: bool| {
        let (one, two) = (FakeHead::new(), FakeHead::new());
        let mut reader = read(heads(&[&one, &two]), Query { follow, ..Query::default() });
        let script = beside(move || {
            let mut asked = one.accept();
            asked.waiting(waiting);
            asked.closed();
            let mut asked = two.accept();
            asked.records(id(11), &lines(TEXT, &[10]));
            // It loses them, and the other has them by now, which shows when it is tried again.
            asked.waiting(waiting);
            while let Some(frame) = asked.frame() {
                let mut out = bytes::BytesMut::new();
                if let Frame::Ping(n) = frame {
                    Frame::Pong(n).encode(&mut out).unwrap();
                }
                drop(asked.raw(&out));
            }
            let mut asked = one.accept();
            assert_eq!(asked.query.from, id(11));
            asked.records(id(21), &lines(TEXT, &[20]));
            asked.closed();
        });
        let mut told = Vec::new();
        while told.len() < 4 {
            match next(&mut reader).await.unwrap().unwrap() {
                Event::Message(message) => told.push(message.text().to_owned()),
                Event::Lost { cause, .. } => {
                    assert!(cause.starts_with(if waiting == "dataNodes" {
                        "no hay dataNodes; "
                    } else {
                        "it waits for data1, data2; "
                    }));
                    told.push("lost".to_owned());
                }
                // It stays there for a while, since the other has only just been left.
                Event::Waiting { .. } => told.push("waiting".to_owned()),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(told, ["lost", "m10", "waiting", "m20"]);
        drop(reader);
        script.await;
    };
    tokio::join!(goes_on("dataNodes", false), goes_on("data1,data2", true));
}

#[tokio::test]
async fn a_head_that_answers_and_comes_no_further_is_named_in_time() {
    let head = FakeHead::new();
    let at = head.at.clone();
    let config = trying_for(Duration::from_millis(1_500), heads(&[&head]));
    let mut reader = read(config, Query::default());
    let script = beside(move || {
        let mut asked = head.accept();
        asked.records(id(11), &lines(TEXT, &[10]));
        // It says that it is there, and how far it has come: no further.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while std::time::Instant::now() < deadline && asked.raw(&[]).is_ok() {
            let mut out = bytes::BytesMut::new();
            Frame::Records { next: id(11), lines: Bytes::new() }.encode(&mut out).unwrap();
            if asked.raw(&out).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    });
    let begun = std::time::Instant::now();
    let told = all(&mut reader).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
    assert_eq!(told[0], "m10");
    assert!(told[1].starts_with(&format!("error nothing could be read for 2s: head {at}: it answers, ")), "{told:?}");
    script.await;
}

#[tokio::test]
async fn the_last_are_found_without_reading_everything() {
    // A message a minute for a day, from two clients, one of which sends each twice.
    let minute = |k: u64| k * 60_000;
    let mut records: Vec<Bytes> = (0..1440).map(|k| line(minute(k), TEXT, k + 1, b"text")).collect();
    records.extend((0..1440).flat_map(|k| [5, 9].map(|ms| line(minute(k) + ms, LIBRARY, k + 1, b"library"))));
    let (at, questions) = FakeHead::new().serve(records);
    let config = Config::from(vec![at]);
    let library = |event: &Event| matches!(event, Event::Message(message) if message.client == LIBRARY);
    let query = Query { until: id(minute(1440)), ..Query::default() };
    for n in [0, 1, 10, 100, 1440, 5000] {
        questions.lock().unwrap().clear();
        let Last { from, until, skip } = find_last(&config, &query, n, library).await.unwrap();
        let mut reader = read(config.clone(), Query { from, until, ..Query::default() });
        let mut seqs = Vec::new();
        while let Some(event) = reader.next().await {
            if let Event::Message(message) = event.unwrap()
                && message.client == LIBRARY
            {
                seqs.push(message.seq);
            }
        }
        let seqs = &seqs[usize::try_from(skip).unwrap()..];
        let wanted: Vec<u64> = (1..=1440).skip(1440_usize.saturating_sub(n as usize)).collect();
        assert_eq!(seqs, wanted, "the last {n}");
        let earliest = questions.lock().unwrap().iter().map(|query| query.from).min().unwrap();
        assert!(n > 100 || earliest > id(minute(700)), "the last {n} are not looked for from {earliest} on");
    }
    let since = Query { from: id(minute(1430)), ..query };
    let found = find_last(&config, &since, 100, library).await.unwrap();
    assert_eq!((found.from, found.skip), (since.from, 0));
}
