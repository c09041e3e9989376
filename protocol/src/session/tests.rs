use proptest::prelude::*;

use super::agent::Action;
use super::host::Event;
use super::*;
use crate::command::{PROTOCOL_MAX, PROTOCOL_MIN, Refusal, Side};
use crate::presence::Purpose;
use crate::record::RunId;

const START: Nanos = Nanos(0);

fn hello(side: Side) -> Hello {
    Hello {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        build: "test".into(),
        digest: 1,
        side,
    }
}

fn board() -> Side {
    Side::Agent { board_id: "b".into(), epoch: 1, simulated: None }
}

fn pair() -> (agent::Session, host::Session) {
    let (mut agent, actions) = agent::Session::begin(hello(board()), START);
    let (mut host, host_hello) = host::Session::begin(hello(Side::Host), 100, START);
    let [Action::Send(agent_hello)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(agent.on_bytes(&host_hello, START), []);
    let events = host.on_bytes(agent_hello, START);
    assert!(matches!(events.as_slice(), [Event::Ready(_)]));
    (agent, host)
}

#[test]
fn a_command_gets_its_own_reply() {
    let (mut agent, mut host) = pair();
    let (id, bytes) = host.command(Command::Status, START);
    assert_eq!(agent.on_bytes(&bytes, START), [Action::Perform(id, Command::Status)]);
    let reply = Reply::Refused(Refusal::NoSuchRun);
    let bytes = agent.reply(id, reply.clone(), START);
    assert_eq!(host.on_bytes(&bytes, START), [Event::Reply(id, reply)]);
}

#[test]
fn frames_flow_only_while_credit_lasts() {
    let (mut agent, mut host) = pair();
    let run = RunId::new("r").unwrap();
    assert!(!agent.may_send_frame());
    let fetch = Command::Fetch { run: run.clone(), have: Vec::new(), credit: 100 };
    let _ = agent.on_bytes(&host.command(fetch, START).1, START);
    assert!(agent.may_send_frame());
    agent.frame_sent(150, START);
    assert!(!agent.may_send_frame());
    let more = Acknowledge { run, have: Vec::new(), credit: 10 };
    let _ = agent.on_bytes(&host.acknowledge(more, START), START);
    assert!(agent.may_send_frame());
}

#[test]
fn a_silent_peer_is_pinged_and_then_left() {
    let (mut agent, mut host) = pair();
    let actions = agent.on_timer(PING_AFTER);
    let [Action::Send(ping)] = actions.as_slice() else { panic!("{actions:?}") };
    assert_eq!(host.on_bytes(ping, PING_AFTER), []);
    assert_eq!(host.on_timer(SILENCE_MAX), [Event::Send(Message::Ping.to_frame())]);
    let actions = agent.on_timer(SILENCE_MAX);
    assert!(actions.contains(&Action::Close(Some(SessionError::Silence))));
    assert!(agent.is_closed());
}

/// A login over SSH on a slow board stands between a host and its agent's Hello; an
/// agent has no such reason to wait for a stranger.
#[test]
fn a_host_waits_for_a_login_and_an_agent_for_nobody() {
    let (mut agent, _) = agent::Session::begin(hello(board()), START);
    let (mut host, _) = host::Session::begin(hello(Side::Host), 100, START);
    let late = |within| SessionError::HelloTimeout { within };
    assert!(host.on_timer(HELLO_WITHIN).is_empty());
    let closed = agent.on_timer(HELLO_WITHIN);
    assert!(closed.contains(&Action::Close(Some(late(HELLO_WITHIN)))), "{closed:?}");
    assert_eq!(host.on_timer(ANSWER_WITHIN), [Event::Failed(late(ANSWER_WITHIN))]);
}

#[test]
fn a_web_browser_is_turned_away_at_its_first_bytes() {
    let (mut agent, _) = agent::Session::begin(hello(board()), START);
    let actions = agent.on_bytes(b"GET / HTTP/1.1\r\n", START);
    assert!(matches!(
        actions.last(),
        Some(Action::Close(Some(SessionError::Frame(FrameError::Magic { .. }))))
    ));
}

#[test]
fn versions_that_do_not_meet_are_named_on_both_sides() {
    let later = Hello { protocol_min: 9, protocol_max: 12, ..hello(Side::Host) };
    let (mut agent, _) = agent::Session::begin(hello(board()), START);
    let actions = agent.on_bytes(&Message::Hello(later).to_frame(), START);
    let versions = SessionError::Versions { min: 9, max: 12 };
    assert_eq!(actions.last(), Some(&Action::Close(Some(versions))));
}

#[test]
fn an_agent_refuses_to_talk_to_an_agent() {
    let (mut agent, _) = agent::Session::begin(hello(board()), START);
    let actions = agent.on_bytes(&Message::Hello(hello(board())).to_frame(), START);
    assert_eq!(actions.last(), Some(&Action::Close(Some(SessionError::SameSide))));
}

#[test]
fn a_host_says_who_it_is_and_an_agent_of_before_would_skip_it() {
    let (mut agent, mut host) = pair();
    let who = Introduction { purpose: Purpose::Run, process: 7, ..Introduction::default() };
    let bytes = host.introduce(who.clone(), START);
    assert_eq!(agent.on_bytes(&bytes, START), [Action::Introduced(who)]);
    // An agent of before knows no such kind; unknown kinds are skipped by their length.
    let unknown = Message::Unknown(0x8F).to_frame();
    assert_eq!(agent.on_bytes(&unknown, START), []);
    assert!(!agent.is_closed());
}

#[test]
fn a_host_that_is_turned_away_before_a_hello_hears_why() {
    let (mut session, _) = host::Session::begin(hello(Side::Host), 1, START);
    let bytes = Message::Farewell(Farewell::TooManySessions).to_frame();
    let events = session.on_bytes(&bytes, START);
    assert_eq!(events, [Event::Farewell(Farewell::TooManySessions)]);
}

#[test]
fn a_message_of_a_later_version_is_skipped() {
    let (mut agent, mut host) = pair();
    let mut bytes = Message::Unknown(0xF0).to_frame();
    let (id, command) = host.command(Command::Describe, START);
    bytes.extend(command);
    assert_eq!(agent.on_bytes(&bytes, START), [Action::Perform(id, Command::Describe)]);
}

proptest! {
    #[test]
    fn any_bytes_end_a_session_or_wait_but_never_panic(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8),
    ) {
        let (mut agent, mut host) = pair();
        for chunk in chunks {
            let _ = agent.on_bytes(&chunk, START);
            let _ = host.on_bytes(&chunk, START);
        }
    }

    #[test]
    fn messages_survive_any_cutting_of_the_stream(cut in 1_usize..40) {
        let (mut agent, mut host) = pair();
        let mut bytes = Vec::new();
        let mut ids = Vec::new();
        for _ in 0..5 {
            let (id, command) = host.command(Command::Status, START);
            ids.push(id);
            bytes.extend(command);
        }
        let mut found = Vec::new();
        for chunk in bytes.chunks(cut) {
            for action in agent.on_bytes(chunk, START) {
                if let Action::Perform(id, _) = action {
                    found.push(id);
                }
            }
        }
        prop_assert_eq!(found, ids);
    }
}
