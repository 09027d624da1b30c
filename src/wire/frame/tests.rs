//! Tests of the framed dialect: round trips, every error, and streams that are cut, mutated or random.

use proptest::prelude::*;

use bytes::{Bytes, BytesMut};

use super::table::kind;
use super::*;
use crate::limits::{
    FRAME_MESSAGES_MAX, LINES_FRAME_BYTES_MAX, MESSAGE_BYTES_MAX, REPLICAS_MAX, STATUS_BYTES_MAX, TEXT_BYTES_MAX,
};
use crate::wire::error::{Code, Refusal};
use crate::wire::filter::tests::any_filter;
use crate::wire::id::{ClientId, RecordId};
use crate::wire::ledger::{Incarnation, LedgerId, NUMBER_END, NodeId, Place};
use crate::wire::proof::{Holder, KeyHint, Knock, Nonce, Proof};
use crate::wire::record::Tag;
use crate::wire::source::{Flaw, SourceName, tests::name as source_name};

fn id(time_ns: u64) -> RecordId {
    RecordId { time_ns, incarnation: 7 }
}

fn messages(payloads: &[&[u8]]) -> Messages {
    let mut builder = MessagesBuilder::new();
    payloads.iter().for_each(|payload| builder.push(&[payload]).unwrap());
    builder.take().unwrap()
}

/// Of a head without a key.
static NO_TAGS: Tags = Tags::none();

/// As many tags as a batch has messages; none where it is no batch.
fn tags(bits: Option<u64>, count: u16) -> Tags {
    let count = if usize::from(count) <= BATCH_MESSAGES_MAX { count } else { 0 };
    let tags = bits
        .into_iter()
        .flat_map(|bits| (0..u64::from(count)).map(move |k| Tag::from_bits(bits.rotate_left(k as u32))));
    TagsBuilder::default().collect(tags)
}

const fn put_fields() -> PutFields<'static> {
    let first = RecordId { time_ns: 1, incarnation: 7 };
    let place = Place { number: 3, entry: 0 };
    PutFields { first, client: ClientId(1), first_seq: 1, place, members: &[NodeId(5)], source: None, tags: &NO_TAGS }
}

fn bytes(frame: &Frame) -> BytesMut {
    let mut out = BytesMut::new();
    frame.encode(&mut out).unwrap();
    out
}

/// A frame of this kind and body.
fn raw(kind: u8, body: &[u8]) -> BytesMut {
    let length = (body.len() as u32 + 1).to_be_bytes();
    BytesMut::from([&length, [kind].as_slice(), body].concat().as_slice())
}

fn error(kind: u8, body: &[u8]) -> FrameError {
    Frame::decode(&mut raw(kind, body)).unwrap_err()
}

fn decode_all(mut buffer: BytesMut) -> (Vec<Frame>, Option<FrameError>) {
    let mut frames = vec![];
    loop {
        match Frame::decode(&mut buffer) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return (frames, None),
            Err(error) => return (frames, Some(error)),
        }
    }
}

#[test]
fn the_bytes_are_those_of_the_contract() {
    let mut out = BytesMut::new();
    put_ack(&mut out, 3, SyncMode::Interval);
    assert_eq!(out.as_ref(), b"\0\0\0\x0a\x12\0\0\0\0\0\0\0\x03\x01");
    let store = Frame::Store { source: None, first_seq: 1, messages: messages(&[b"hola", b""]) };
    assert_eq!(bytes(&store).as_ref(), b"\0\0\0\x17\x03\0\0\0\0\0\0\0\x01\0\x02\0\0\0\x04hola\0\0\0\0");
    let mut out = BytesMut::new();
    acked(&mut out, 1, 2, id(9), SyncMode::Always, ["127.0.0.2"]).unwrap();
    assert_eq!(
        out.as_ref(),
        b"\0\0\0\x26\x04\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x09\0\0\0\x07\0\x01\0\x09127.0.0.2"
    );
}

#[test]
fn a_length_out_of_bounds_is_refused_before_room_is_made() {
    let wrong = [
        (0_u32, vec![]),
        (LINES_FRAME_BYTES_MAX as u32 + 1, vec![]),
        (u32::MAX, vec![]),
        (FRAME_BYTES_MAX as u32 + 1, vec![kind::STORE]),
    ];
    for (length, body) in wrong {
        let mut buffer = BytesMut::from([&length.to_be_bytes()[..], &body].concat().as_slice());
        let room = buffer.capacity();
        assert_eq!(Frame::decode(&mut buffer), Err(FrameError::Length(length as usize)));
        assert_eq!(buffer.capacity(), room);
    }
    let mut buffer = BytesMut::from([&(FRAME_BYTES_MAX as u32).to_be_bytes()[..], &[kind::STORE]].concat().as_slice());
    assert_eq!(Frame::decode(&mut buffer), Ok(None));
    assert!(buffer.capacity() >= FRAME_BYTES_MAX);
    let mut unknown = BytesMut::from(b"\0\x0f\0\0\x7f".as_slice());
    assert_eq!(Frame::decode(&mut unknown), Err(FrameError::Kind(0x7f)), "known from its first byte");
}

#[test]
fn a_store_as_without_a_name_that_is_one_is_refused() {
    for (name, flaw) in [(&b"\0\0"[..], Flaw::Empty), (b"\0\x02a/", Flaw::Slash), (b"\0\x08acopio/2", Flaw::Reserved)] {
        let body = [name, &[0; 8], &[0, 1], &[0, 0, 0, 1, b'x']].concat();
        assert_eq!(error(kind::STORE_AS, &body), FrameError::Source(flaw));
    }
}

#[test]
fn counts_and_lengths_that_lie_are_named() {
    let store = |count: u16, block: &[u8]| error(kind::STORE, &[&[0; 8], &count.to_be_bytes()[..], block].concat());
    assert_eq!(store(0, b""), FrameError::Count(0));
    assert_eq!(store(1025, b""), FrameError::Count(1025));
    assert_eq!(store(2, b"\0\0\0\x01a"), FrameError::BlockShort { count: 2, at: 2 });
    assert_eq!(store(1, b"\0\0\0\x05a"), FrameError::BlockShort { count: 1, at: 1 });
    assert_eq!(store(1, b"\0\0\0\x01abc"), FrameError::BlockTrailing { count: 1, left: 2 });
    assert_eq!(store(1, b"\0\x10\0\x01"), FrameError::MessageLong(MESSAGE_BYTES_MAX + 1));
    assert_eq!(store(1, b"\xff\xff\xff\xff").code(), Code::TooLong);
    let long = error(kind::STORE, &[&[0; 8], &1_u16.to_be_bytes()[..], &vec![0; BLOCK_BYTES_MAX + 1]].concat());
    assert_eq!(long, FrameError::BlockLong(BLOCK_BYTES_MAX + 1));
}

#[test]
fn fields_out_of_bounds_are_named() {
    let ones = [0xff_u8; 40];
    assert_eq!(error(kind::PING, &[1]), FrameError::Short { kind: kind::PING, wanted: 8, left: 1 });
    assert_eq!(error(kind::PING, &[0; 10]), FrameError::Trailing { kind: kind::PING, left: 2 });
    assert_eq!(error(kind::LEAVE, &[0]), FrameError::Trailing { kind: kind::LEAVE, left: 1 });
    assert_eq!(error(kind::HELLO, &[0, 0, 0, 0, 0, 0, 0, 1, 2]), FrameError::Flags(2));
    assert_eq!(error(kind::HELLO, &ones[..9]), FrameError::Identity(u64::MAX));
    assert_eq!(error(kind::PUT_ACK, &[0, 0, 0, 0, 0, 0, 0, 1, 3]), FrameError::Sync(3));
    assert_eq!(error(kind::FAILURE, &[0, 99, 0, 0, 0]), FrameError::Code(crate::wire::error::UnknownCode(99)));
    assert_eq!(error(kind::FAILURE, &[0, 1, 7, 0, 0]), FrameError::Flags(7));
    assert_eq!(error(kind::FAILURE, &[0, 1, 0, 0, 2, b'a', 0xff]), FrameError::Utf8(1));
    assert_eq!(error(kind::FAILURE, &[0, 1, 0, 2, 1]), FrameError::TextLong(513));
    assert_eq!(error(kind::FAILURE, &[0, 1, 0, 0, 9]), FrameError::Short { kind: kind::FAILURE, wanted: 9, left: 0 });
    assert_eq!(error(kind::KNOCK, &[2; 33]), FrameError::Holder(2));
    assert_eq!(error(kind::PROOF, &[0; 31]), FrameError::Short { kind: kind::PROOF, wanted: 32, left: 31 });
    assert!(matches!(error(kind::PUT, &ones), FrameError::Checksum { .. }));
    let late = [&ones[..8], &[0, 1], &[0, 0, 0, 0]].concat();
    assert!(matches!(error(kind::STORE, &late), FrameError::Sequence { .. }));
    let acked = |count: u8, copies: u8| {
        let (zeros, one) = ([0_u8; 11], [count]);
        error(kind::ACKED, &[&zeros[..], &one, &[0; 12], &[0, copies]].concat())
    };
    assert_eq!(acked(0, 0), FrameError::Empty);
    assert_eq!(acked(1, 9), FrameError::Copies(9));
    assert_eq!(acked(1, 1), FrameError::Short { kind: kind::ACKED, wanted: 2, left: 0 });
    assert_eq!(
        error(kind::STATUS_REPORT, &vec![0; STATUS_BYTES_MAX + 1]),
        FrameError::StatusLong(STATUS_BYTES_MAX + 1)
    );
}

#[test]
fn the_name_of_a_source_in_a_put_takes_room_only_where_there_is_one() {
    let encoded = |source: Option<&SourceName>| {
        let mut out = BytesMut::new();
        put(&mut out, PutFields { source, ..put_fields() }, &messages(&[b"hola"])).unwrap();
        out
    };
    let (without, with) = (encoded(None), encoded(Some(&source_name("esp7"))));
    assert_eq!(with.len(), without.len() + 2 + 4);
    let Ok(Some(Frame::Put { source, members, .. })) = Frame::decode(&mut with.clone()) else { panic!("no Put") };
    assert_eq!((source, members), (Some(source_name("esp7")), vec![NodeId(5)]));
    // A name that is none, under a right checksum.
    let mut wrong = with.clone();
    let at = wrong.windows(4).position(|four| four == b"esp7").unwrap();
    wrong[at] = b' ';
    let crc = crc32c::crc32c(&wrong[PREFIX + 5..]).to_be_bytes();
    wrong[PREFIX + 1..PREFIX + 5].copy_from_slice(&crc);
    assert_eq!(Frame::decode(&mut wrong), Err(FrameError::Source(Flaw::Byte(b' '))));
}

#[test]
fn each_record_of_a_put_has_a_tag_or_none_has() {
    let (mut builder, mut out) = (TagsBuilder::default(), BytesMut::new());
    let two = messages(&[b"hola", b"adios"]);
    let mut tagged = |tags: &[u64]| builder.collect(tags.iter().map(|bits| Tag::from_bits(*bits)));
    let right = tagged(&[7, u64::MAX]);
    put(&mut out, PutFields { tags: &right, ..put_fields() }, &two).unwrap();
    let Ok(Some(Frame::Put { tags, .. })) = Frame::decode(&mut out.clone()) else { panic!("no Put") };
    assert_eq!(tags.iter().map(Tag::bits).collect::<Vec<_>>(), [7, (1 << 60) - 1]);
    // Behind prefix, kind, checksum, id, client, numbers, entry and one member.
    let at = PREFIX + 1 + 4 + 12 + 8 + 8 + 8 + 1 + 8;
    for (byte, wrong) in [(0, 0), (0, 1), (0, 3), (1, 0x10)] {
        let mut changed = out.clone();
        changed[at + byte] = wrong;
        let crc = crc32c::crc32c(&changed[PREFIX + 5..]).to_be_bytes();
        changed[PREFIX + 1..PREFIX + 5].copy_from_slice(&crc);
        assert!(Frame::decode(&mut changed).is_err(), "{byte} {wrong}");
    }
    let many = messages(&[b"x".as_slice(); 17]);
    for (tags, messages) in [(tagged(&[7]), &two), (tagged(&[7, 7, 7]), &two), (tagged(&[7; 17]), &many)] {
        let before = out.clone();
        assert!(put(&mut out, PutFields { tags: &tags, ..put_fields() }, messages).is_err());
        assert_eq!(out, before);
    }
}

/// A byte that changes on the road is no record with a right checksum: the frame is refused.
#[test]
fn a_changed_byte_of_a_put_is_refused() {
    let mut out = BytesMut::new();
    put(&mut out, put_fields(), &messages(&[b"hola", b"adios"])).unwrap();
    for at in PREFIX + 1..out.len() {
        let mut changed = out.clone();
        changed[at] ^= 0x20;
        assert!(matches!(Frame::decode(&mut changed), Err(FrameError::Checksum { .. })), "byte {at}");
    }
}

#[test]
fn encoders_refuse_what_decoders_do_and_leave_the_buffer() {
    let one = messages(&[b"x"]);
    let mut out = BytesMut::from(b"before".as_slice());
    let wrong_id = RecordId { time_ns: u64::MAX, incarnation: 0 };
    let wrong = ClientId(1 << 60);
    let fields = put_fields();
    let results = [
        store(&mut out, None, SEQ_END, &one),
        store(&mut out, None, u64::MAX, &one),
        store(&mut out, None, 1, &Messages::default()),
        put(&mut out, PutFields { first: wrong_id, ..fields }, &one),
        put(&mut out, PutFields { client: wrong, ..fields }, &one),
        put(&mut out, PutFields { place: Place { number: NUMBER_END, entry: 0 }, ..fields }, &one),
        put(&mut out, PutFields { place: Place { number: 0, entry: NUMBER_END }, ..fields }, &one),
        put(&mut out, PutFields { members: &[NodeId(1); REPLICAS_MAX + 1], ..fields }, &one),
        acked(&mut out, 1, 0, id(1), SyncMode::Always, []),
        acked(&mut out, 1, 1, id(1), SyncMode::Always, ["x"; REPLICAS_MAX + 1]),
        acked(&mut out, 1, 1, id(1), SyncMode::Always, ["x".repeat(TEXT_BYTES_MAX + 1).as_str()]),
        Frame::Refused { first_seq: SEQ_END, count: 1, refusal: Refusal::new(Code::Full, "") }.encode(&mut out),
        Frame::StatusReport(vec![0; STATUS_BYTES_MAX + 1].into()).encode(&mut out),
        Frame::Hello { client: wrong, text: false }.encode(&mut out),
    ];
    for (i, result) in results.into_iter().enumerate() {
        assert!(result.is_err(), "number {i}");
    }
    assert_eq!(out.as_ref(), b"before");
}

#[test]
fn a_long_explanation_is_cut_at_a_character() {
    let mut out = BytesMut::new();
    failure(&mut out, &Refusal::new(Code::Full, "x".to_owned() + &"ñ".repeat(TEXT_BYTES_MAX)));
    let Ok(Some(Frame::Failure(refusal))) = Frame::decode(&mut out) else { panic!("no Failure") };
    assert_eq!(refusal.text, "x".to_owned() + &"ñ".repeat((TEXT_BYTES_MAX - 1) / 2));
}

#[test]
fn builders_stop_at_the_bounds() {
    let (mut builder, mut out) = (MessagesBuilder::new(), BytesMut::new());
    let mut frame = StoreBuilder::begin(&mut out, 5);
    let long = vec![0; MESSAGE_BYTES_MAX + 1];
    assert_eq!(builder.push(&[&long[1..], b"x"]), Err(FrameError::MessageLong(MESSAGE_BYTES_MAX + 1)));
    assert_eq!(frame.push(&mut out, &long), Err(FrameError::MessageLong(MESSAGE_BYTES_MAX + 1)));
    assert!(builder.take().is_none());
    for _ in 0..FRAME_MESSAGES_MAX {
        builder.push(&[b"x"]).unwrap();
        frame.push(&mut out, b"x").unwrap();
    }
    assert_eq!(builder.push(&[b"x"]), Err(FrameError::Count(FRAME_MESSAGES_MAX + 1)));
    assert_eq!(frame.push(&mut out, b"x"), Err(FrameError::Count(FRAME_MESSAGES_MAX + 1)));
    assert_eq!(frame.payload_bytes(&out), FRAME_MESSAGES_MAX);
    frame.end(&mut out);
    let built = builder.take().unwrap();
    assert_eq!(Frame::decode(&mut out), Ok(Some(Frame::Store { source: None, first_seq: 5, messages: built.clone() })));
    // What fills a Store fits a Put as well.
    builder.push(&[&long[1..]]).unwrap();
    while builder.push(&[b""]).is_ok() {}
    let members = [NodeId(1); REPLICAS_MAX];
    let source = Some(&source_name(&"x".repeat(32)));
    put(&mut out, PutFields { members: &members, source, ..put_fields() }, &builder.take().unwrap()).unwrap();
    assert!(Frame::decode(&mut out).unwrap().is_some());
    let mut named = StoreBuilder::begin_as(&mut out, Some(source_name("taller/esp7")), 5);
    (0..3).for_each(|_| named.push(&mut out, b"xy").unwrap());
    assert_eq!((named.payload_bytes(&out), named.source()), (6, Some(source_name("taller/esp7"))));
    named.end(&mut out);
    let source = Some(source_name("taller/esp7"));
    let wanted = Frame::Store { source, first_seq: 5, messages: messages(&[b"xy".as_slice(); 3]) };
    assert_eq!(Frame::decode(&mut out.clone()), Ok(Some(wanted.clone())));
    assert_eq!(out.split(), bytes(&wanted));
    let empty = StoreBuilder::begin(&mut out, 1);
    assert_eq!((empty.end(&mut out), out.len()), (0, 0));
}

#[test]
fn a_batch_is_cut_off_the_front_without_a_copy() {
    let mut all = messages(&[b"aa", b"bb", b"cc", b"dddddd", b""]);
    assert_eq!(all.payload_bytes(), 12);
    let start = all.block().as_ptr();
    let batch = all.split_to(16, 5).unwrap();
    assert_eq!(batch.iter().collect::<Vec<_>>(), [b"aa", b"bb"]);
    assert_eq!(batch.block().as_ptr(), start);
    assert_eq!(all.split_to(1, 5).unwrap().count(), 1);
    assert_eq!(all.split_to(9, 5).unwrap().payload_bytes(), 6, "a larger one alone");
    assert!(all.split_to(0, 5).is_none());
    assert_eq!(all.split_to(9, 0).unwrap().iter_bytes().collect::<Vec<_>>(), [Bytes::new()]);
    assert!(all.is_empty() && all.split_to(9, 9).is_none());
}

fn any_messages() -> impl Strategy<Value = Messages> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 1..20)
        .prop_map(|all| messages(&all.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

fn sync_mode() -> impl Strategy<Value = SyncMode> {
    prop::sample::select(vec![SyncMode::Always, SyncMode::Interval, SyncMode::Never])
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let seq = || 0..SEQ_END - 100;
    let client = || (0..1_u64 << 60).prop_map(ClientId);
    let record =
        || (0..1_u64 << 62, 0..1_u32 << 30).prop_map(|(time_ns, incarnation)| RecordId { time_ns, incarnation });
    let code = || prop::sample::select(Code::ALL.to_vec());
    let text = || "\\PC{0,40}";
    let refusal = move || (code(), any::<bool>(), text()).prop_map(|(code, retry, text)| Refusal { code, text, retry });
    let report = move || {
        let free = prop::option::of(0..u64::MAX);
        (any::<bool>(), any::<[u64; 4]>(), free, text()).prop_map(
            |(writable, [records, bytes, syncs, written], free, reason)| NodeReport {
                writable,
                records,
                bytes,
                syncs,
                written,
                free,
                reason,
            },
        )
    };
    let copies = prop::collection::vec(text(), 0..=REPLICAS_MAX);
    prop_oneof![
        (client(), any::<bool>()).prop_map(|(client, text)| Frame::Hello { client, text }),
        (any::<u32>(), any::<u32>(), any::<u32>(), text()).prop_map(
            |(incarnation, window_messages, window_bytes, cluster)| Frame::Welcome {
                incarnation,
                window_messages,
                window_bytes,
                cluster
            }
        ),
        (source(), seq(), any_messages()).prop_map(|(source, first_seq, messages)| Frame::Store {
            source,
            first_seq,
            messages
        }),
        (seq(), 1..100_u32, record(), sync_mode(), copies).prop_map(|(first_seq, count, first, sync, ips)| {
            let mut out = BytesMut::new();
            acked(&mut out, first_seq, count, first, sync, ips.iter().map(String::as_str)).unwrap();
            let frame = Frame::decode(&mut out).unwrap().unwrap();
            let Frame::Acked { copies, .. } = &frame else { panic!("no Acked") };
            assert_eq!(copies.iter().collect::<Vec<_>>(), ips);
            frame
        }),
        (seq(), 1..100_u32, refusal()).prop_map(|(first_seq, count, refusal)| Frame::Refused {
            first_seq,
            count,
            refusal
        }),
        any::<[bool; 2]>().prop_map(|[clients, ledgers]| Frame::StatusQuery { clients, ledgers }),
        prop::collection::vec(any::<u8>(), 0..99).prop_map(|json| Frame::StatusReport(json.into())),
        refusal().prop_map(Frame::Failure),
        any::<u64>().prop_map(Frame::Ping),
        any::<u64>().prop_map(Frame::Pong),
        (node(), prop::option::of(node()), any::<bool>(), text(), text(), sync_mode(), report()).prop_map(
            |(node, replaces, old, name, cluster, sync, report)| Frame::Register {
                node,
                replaces,
                old,
                name,
                cluster,
                sync,
                report
            }
        ),
        (record(), client(), seq(), (0..NUMBER_END, 0..NUMBER_END - 100), nodes(), (source(), tag()), any_messages())
            .prop_map(|(first, client, first_seq, (number, entry), members, (source, tag), messages)| Frame::Put {
                first,
                client,
                first_seq,
                place: Place { number, entry },
                members,
                source,
                tags: tags(tag, messages.count()),
                messages
            }),
        (any::<u64>(), sync_mode()).prop_map(|(up_to, sync)| Frame::PutAck { up_to, sync }),
        (any::<u64>(), code(), text()).prop_map(|(number, code, why)| Frame::PutRefused { number, code, why }),
        report().prop_map(Frame::NodeState),
        Just(Frame::Leave),
        sources_frame(),
        proof_frame(),
        reading_frame(),
        ledger_frame(),
    ]
}

fn tag() -> impl Strategy<Value = Option<u64>> {
    prop::option::of(any::<u64>())
}

fn source() -> impl Strategy<Value = Option<SourceName>> {
    prop::option::of(crate::wire::source::tests::any_name())
}

/// The frames about sources.
fn sources_frame() -> impl Strategy<Value = Frame> {
    let record =
        || (0..1_u64 << 62, 0..1_u32 << 30).prop_map(|(time_ns, incarnation)| RecordId { time_ns, incarnation });
    let count = (crate::wire::source::tests::any_name(), any::<u64>(), record(), record())
        .prop_map(|(name, records, first, last)| SourceCount { name, records, first, last });
    prop_oneof![
        (source(), any::<u16>()).prop_map(|(behind, most)| Frame::DevicesQuery { behind, most }),
        (any::<u32>(), source(), any::<u16>()).prop_map(|(request, behind, most)| Frame::SourcesQuery {
            request,
            behind,
            most
        }),
        (any::<u32>(), any::<[bool; 2]>(), prop::collection::vec(count, 0..4))
            .prop_map(|(request, [more, unlisted], sources)| Frame::SourcesPage { request, more, unlisted, sources }),
    ]
}

/// The frames of proofs.
fn proof_frame() -> impl Strategy<Value = Frame> {
    let holder = prop::sample::select(vec![Holder::Node, Holder::Cluster]);
    prop_oneof![
        (holder, any::<[u8; 8]>(), any::<[u8; 32]>()).prop_map(|(holder, hint, nonce)| {
            Frame::Knock(Knock { holder, hint: KeyHint(hint), nonce: Nonce(nonce) })
        }),
        (any::<[[u8; 32]; 2]>(), "\\PC{0,40}").prop_map(|([nonce, proof], cluster)| Frame::Challenge {
            nonce: Nonce(nonce),
            proof: Proof(proof),
            cluster
        }),
        any::<[u8; 32]>().prop_map(|proof| Frame::Proof(Proof(proof))),
    ]
}

fn node() -> impl Strategy<Value = NodeId> {
    (0..1_u64 << 60).prop_map(NodeId)
}

fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
    prop::collection::vec(node(), 0..=REPLICAS_MAX)
}

fn ledger() -> impl Strategy<Value = LedgerId> {
    (0..1_u32 << 30, 0..NUMBER_END)
        .prop_map(|(incarnation, number)| LedgerId { incarnation: Incarnation(incarnation), number })
}

/// The frames of the replication protocol.
fn ledger_frame() -> impl Strategy<Value = Frame> {
    let span = || (0..1000_u32, 0..1000_u32).prop_map(|(from, len)| from..from + len);
    let range = || (0..1000_u32, 1..1000_u32).prop_map(|(from, len)| from..from + len);
    let state = prop::sample::select(vec![HoldState::Open, HoldState::Over, HoldState::Settled, HoldState::Part]);
    let entries = (0..NUMBER_END, 0..NUMBER_END, 0..NUMBER_END);
    let held = (ledger(), nodes(), any::<bool>(), state, entries, prop::collection::vec(range(), 0..4)).prop_map(
        |(ledger, members, member, state, (from, end, count), lacking)| Held {
            ledger,
            members,
            member,
            state,
            from,
            end,
            count,
            lacking,
        },
    );
    let member =
        (node(), any::<u32>(), "\\PC{0,40}").prop_map(|(node, generation, name)| Member { node, generation, name });
    let copies = (1..9_u8, any::<[u8; 2]>(), any::<u32>())
        .prop_map(|(replicas, [least, before], generation)| CopiesWanted { replicas, least, before, generation });
    let founding =
        (any::<u64>(), any::<u32>()).prop_map(|(time_ns, head)| Founding { time_ns, head: Incarnation(head) });
    let roster = (prop::option::of(copies), prop::collection::vec(founding, 0..3), prop::collection::vec(member, 0..5))
        .prop_map(|(copies, foundings, members)| Roster { copies, foundings, members });
    let numbers = || {
        (0..1_u32 << 30, range())
            .prop_map(|(incarnation, numbers)| Numbers { incarnation: Incarnation(incarnation), numbers })
    };
    let cursor = (ledger(), 0..NUMBER_END).prop_map(|(ledger, next)| Cursor { ledger, next });
    let client = prop::option::of((0..1_u64 << 60).prop_map(ClientId));
    let lines = || "([a-z]{0,20}\n){0,3}".prop_map(Bytes::from);
    prop_oneof![
        (ledger(), 0..NUMBER_END, any::<bool>()).prop_map(|(ledger, end, settled)| Frame::Close {
            ledger,
            end,
            settled
        }),
        (any::<bool>(), prop::collection::vec(numbers(), 0..3), prop::collection::vec(held, 0..4))
            .prop_map(|(more, gone, held)| Frame::Holds { more, gone, held }),
        (ledger(), span(), any::<bool>()).prop_map(|(ledger, entries, settled)| Frame::Adopt {
            ledger,
            entries,
            settled
        }),
        (any::<u32>(), ledger(), span()).prop_map(|(request, ledger, entries)| Frame::Fetch {
            request,
            ledger,
            entries
        }),
        (any::<u32>(), lines()).prop_map(|(request, lines)| Frame::Fetched { request, lines }),
        roster.prop_map(Frame::Roster),
        (
            any::<u32>(),
            client,
            any_filter(),
            prop::collection::vec(numbers(), 0..4),
            prop::collection::vec(cursor, 0..4)
        )
            .prop_map(|(request, client, sources, done, cursors)| Frame::Follow {
                request,
                client,
                sources,
                done,
                cursors
            }),
        any::<[u32; 2]>().prop_map(|[request, bytes]| Frame::Credit { request, bytes }),
        (any::<u32>(), ledger(), span(), lines()).prop_map(|(request, ledger, entries, lines)| Frame::Pushed {
            request,
            ledger,
            entries,
            lines
        }),
    ]
}

/// The frames of reading.
fn reading_frame() -> impl Strategy<Value = Frame> {
    let record =
        || (0..1_u64 << 62, 0..1_u32 << 30).prop_map(|(time_ns, incarnation)| RecordId { time_ns, incarnation });
    let client = || prop::option::of((0..1_u64 << 60).prop_map(ClientId));
    let text = || "\\PC{0,40}";
    let lines = || "([a-z]{0,20}\n){0,3}".prop_map(Bytes::from);
    let token = || prop::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
    let refusal = || {
        (prop::sample::select(Code::ALL.to_vec()), any::<bool>(), text()).prop_map(|(code, retry, text)| Refusal {
            code,
            text,
            retry,
        })
    };
    prop_oneof![
        (record(), record(), client(), any_filter(), any::<[bool; 2]>(), token()).prop_map(
            |(from, until, client, sources, [follow, partial], token)| Frame::Read {
                from,
                until,
                client,
                sources,
                follow,
                partial,
                token
            }
        ),
        token().prop_map(Frame::Token),
        (record(), lines()).prop_map(|(next, lines)| Frame::Records { next, lines }),
        (record(), text()).prop_map(|(next, missing)| Frame::ReadEnd { next, missing }),
        text().prop_map(|nodes| Frame::Waiting { nodes }),
        text().prop_map(|missing| Frame::Lacks { missing }),
        any::<u64>().prop_map(Frame::Flush),
        any::<u64>().prop_map(Frame::Flushed),
        (any::<[bool; 2]>(), text()).prop_map(|([gone, lose], name)| Frame::Drain { gone, lose, name }),
        any::<[u8; 2]>().prop_map(|[replicas, least]| Frame::Copies { replicas, least }),
        (any::<u32>(), record(), record(), client(), any_filter(), any::<u32>()).prop_map(
            |(request, from, until, client, sources, bytes_max)| Frame::Scan {
                request,
                from,
                until,
                client,
                sources,
                bytes_max
            }
        ),
        (any::<u32>(), record(), record(), any::<u32>(), lines()).prop_map(
            |(request, next, greatest, rotten, lines)| Frame::Page { request, next, greatest, rotten, lines }
        ),
        (any::<u32>(), refusal()).prop_map(|(request, refusal)| Frame::ScanFailed { request, refusal }),
    ]
}

proptest! {
    #[test]
    fn frames_round_trip_wherever_the_stream_is_cut(
        frames in prop::collection::vec(any_frame(), 1..6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..4),
    ) {
        let mut stream = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut stream).unwrap();
        }
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        ends.push(stream.len());
        ends.sort_unstable();
        let (mut got, mut buffer, mut start) = (vec![], BytesMut::new(), 0);
        for end in ends {
            buffer.extend_from_slice(&stream[start..end]);
            start = end;
            while let Some(frame) = Frame::decode(&mut buffer).unwrap() {
                got.push(frame);
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn the_encoder_writes_what_it_reads(frame in any_frame()) {
        let first = bytes(&frame);
        let again = Frame::decode(&mut first.clone()).unwrap().unwrap();
        prop_assert_eq!(bytes(&again), first);
        prop_assert_eq!(again.kind(), frame.kind());
    }

    #[test]
    fn mutated_streams_never_break_the_decoder(
        frames in prop::collection::vec(any_frame(), 1..4),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut stream = BytesMut::new();
        for frame in &frames {
            frame.encode(&mut stream).unwrap();
        }
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        check_hostile(stream)?;
    }

    #[test]
    fn random_bytes_never_break_the_decoder(
        stream in prop::collection::vec(any::<u8>(), 0..300), length in 0..64_u32, kind in 0..0x2b_u8,
    ) {
        check_hostile(BytesMut::from(stream.as_slice()))?;
        let framed = [&length.to_be_bytes(), [kind].as_slice(), &stream].concat();
        check_hostile(BytesMut::from(framed.as_slice()))?;
    }
}

/// Decodes a hostile stream: what is decoded obeys every bound and can be encoded again, and no room beyond a frame's
/// is made.
fn check_hostile(mut stream: BytesMut) -> Result<(), TestCaseError> {
    let (frames, error) = decode_all(stream.clone());
    for frame in frames {
        let mut out = BytesMut::new();
        prop_assert_eq!(frame.encode(&mut out), Ok(()));
        prop_assert!(out.len() <= PREFIX + LINES_FRAME_BYTES_MAX);
    }
    if let Some(error) = error {
        prop_assert!(error.to_string().len() <= TEXT_BYTES_MAX, "it fits a Failure");
    }
    let before = stream.len();
    while let Ok(Some(_)) = Frame::decode(&mut stream) {}
    prop_assert!(stream.capacity() <= 2 * (before + PREFIX + LINES_FRAME_BYTES_MAX));
    Ok(())
}
