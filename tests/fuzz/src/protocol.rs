//! Fuzz targets of the pure crate: frames, records, blocks, commands, campaigns.
//!
//! The environment's `FUZZ_TARGET` names one. A target fails where it panics,
//! and where what was decoded is not what its own encoding decodes to.
#![no_main]

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use wattline_protocol::block::{self, BlockCodec, SampleBlock};
use wattline_protocol::campaign_spec::{CampaignFile, Mode, parse_cores};
use wattline_protocol::command::{Hello, PROTOCOL_MAX, PROTOCOL_MIN, Side};
use wattline_protocol::digest::protocol_digest;
use wattline_protocol::frame::{self, Codec, FrameReader, Header, Identity};
use wattline_protocol::record::Record;
use wattline_protocol::session::{Message, agent, host};
use wattline_protocol::units::Nanos;

fuzz_target!(|bytes: &[u8]| target()(bytes));

fn target() -> fn(&[u8]) {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    *TARGET.get_or_init(|| match std::env::var("FUZZ_TARGET").as_deref() {
        Ok("frames") => frames,
        Ok("records") => records,
        Ok("blocks") => blocks,
        Ok("commands") => commands,
        Ok("campaigns") => campaigns,
        other => panic!("FUZZ_TARGET is frames, records, blocks, commands or campaigns: {other:?}"),
    })
}

/// A stream of frames as a socket brings it, in two pieces; damage is passed.
fn frames(bytes: &[u8]) {
    let _ = black_box(frame::decode(bytes));
    let mut reader = FrameReader::new();
    let half = bytes.len() / 2;
    for piece in [&bytes[..half], &bytes[half..]] {
        reader.feed(piece);
        while let Ok(Some(frame)) = reader.next_frame() {
            let mut again = Vec::new();
            frame::encode(frame.header, frame.payload, &mut again).expect("it was a frame");
            let twice = frame::decode(&again).expect("it was encoded");
            assert_eq!(twice.header, frame.header);
            let _ = black_box(Record::decode(frame.header.kind, frame.payload));
        }
    }
    black_box(frame::resynchronise(bytes));
}

/// A record behind a good check sum: what a later or a hostile version writes.
fn records(bytes: &[u8]) {
    let Some((kind, payload)) = bytes.split_first() else { return };
    if let Ok(record) = Record::decode(*kind, payload) {
        let mut again = Vec::new();
        if record.encode(&mut again).is_ok() {
            // A varint may be written longer than it needs to be; its own form is stable.
            let once = Record::decode(record.kind(), &again).expect("its own encoding");
            let mut twice = Vec::new();
            once.encode(&mut twice).expect("it was encoded");
            assert_eq!(again, twice);
        }
    }
}

/// A block's payload, its codec and its row count. What decodes is encoded
/// again, and that form is stable.
fn blocks(bytes: &[u8]) {
    let [first, low, high, payload @ ..] = bytes else { return };
    let codec = if first & 1 == 0 { BlockCodec::Rice } else { BlockCodec::BitPack };
    let rows = usize::from(u16::from_le_bytes([*low, *high])) % 512;
    BLOCK.with_borrow_mut(|(block, once, twice)| {
        if block::decode(payload, codec, rows, block).is_err() {
            return;
        }
        once.clear();
        block::encode(block, codec, once);
        block::decode(once, codec, rows, block).expect("its own encoding");
        twice.clear();
        block::encode(block, codec, twice);
        assert_eq!(once, twice);
    });
}

thread_local! {
    /// Rooms that are used again: an execution allocates nothing.
    static BLOCK: RefCell<(SampleBlock, Vec<u8>, Vec<u8>)> =
        RefCell::new((SampleBlock::with_capacity(0, 0), Vec::new(), Vec::new()));
}

/// Messages to both sides of a session after the hello; where the kind's top bit
/// is set, which every message has, to a board that waits for one.
fn commands(bytes: &[u8]) {
    let Some((first, payload)) = bytes.split_first() else { return };
    let kind = 0x80 | first;
    let header = Header {
        kind,
        length: 0,
        codec: Codec::Postcard.id(),
        flags: 0,
        count: 0,
        identity: Identity::default(),
    };
    FRAMED.with_borrow_mut(|(framed, of_host, of_agent)| {
        framed.clear();
        if frame::encode(header, payload, framed).is_err() {
            return;
        }
        if of_host.is_empty() {
            *of_host = Message::Hello(hello(Side::Host)).to_frame();
            *of_agent = Message::Hello(hello(agent_side())).to_frame();
        }
        let (mut agent, _) = agent::Session::begin(hello(agent_side()), Nanos(0));
        if first & 0x80 != 0 {
            let _ = black_box(Message::from_frame(kind, payload));
            black_box(agent.on_bytes(framed, Nanos(1)));
            return;
        }
        black_box(agent.on_bytes(of_host, Nanos(1)));
        black_box(agent.on_bytes(framed, Nanos(2)));
        let (mut host, _) = host::Session::begin(hello(Side::Host), 1, Nanos(0));
        black_box(host.on_bytes(of_agent, Nanos(1)));
        black_box(host.on_bytes(framed, Nanos(2)));
    });
}

thread_local! {
    /// The message as a frame, and the hellos of both sides.
    static FRAMED: RefCell<(Vec<u8>, Vec<u8>, Vec<u8>)> =
        const { RefCell::new((Vec::new(), Vec::new(), Vec::new())) };
}

fn agent_side() -> Side {
    Side::Agent { board_id: "board".into(), epoch: 1, simulated: None }
}

fn hello(side: Side) -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: "0".into(),
        digest: protocol_digest(),
        side,
    }
}

/// A campaign file, resolved and written again.
fn campaigns(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = black_box(parse_cores(text));
    let Ok(file) = CampaignFile::parse(text) else { return };
    for mode in [Mode::Full, Mode::Quick] {
        let Ok(spec) = file.clone().resolve(mode) else { continue };
        let again = CampaignFile::parse(&spec.to_toml()).expect("its own text");
        assert_eq!(again.resolve(mode).expect("it was resolved"), spec);
    }
}
