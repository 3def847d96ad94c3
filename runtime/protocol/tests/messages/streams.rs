//! The greeting, the frames of produce and fetch streams, and errors come back.

use millstream_protocol::message::Open;
use millstream_protocol::message::produce::ProduceBatch;
use proptest::prelude::*;

use crate::check::{comes_back, damage};
use crate::strategies::{answer, group as g, peer as p, stream as s, wire_error};

macro_rules! messages {
    ($($test:ident: $message:expr;)*) => {
        proptest! {
            $(
                #[test]
                fn $test(message in $message, damage in damage()) {
                    comes_back(&message, &damage);
                }
            )*
        }
    };
}

messages! {
    hello_comes_back: s::hello();
    welcome_comes_back: s::welcome();
    the_answer_to_a_hello_comes_back: answer(s::welcome());
    open_produce_comes_back: s::open_produce();
    a_stream_opened_to_produce_comes_back: s::open_produce().prop_map(Open::Produce);
    produce_ready_comes_back: s::produce_ready();
    the_answer_to_open_produce_comes_back: answer(s::produce_ready());
    produce_batch_comes_back: Just(ProduceBatch {});
    produce_answers_come_back: s::produce_answers();
    open_fetch_comes_back: s::open_fetch();
    a_stream_opened_to_fetch_comes_back: s::open_fetch().prop_map(Open::Fetch);
    fetch_ready_comes_back: s::fetch_ready();
    the_answer_to_open_fetch_comes_back: answer(s::fetch_ready());
    fetch_data_comes_back: s::fetch_data();
    fetched_data_or_an_error_comes_back: answer(s::fetch_data());
    credit_comes_back: s::credit();
    an_error_comes_back: wire_error();
    open_peer_comes_back: p::open_peer();
    a_stream_opened_by_a_broker_comes_back: p::open_peer().prop_map(Open::Peer);
    what_brokers_say_comes_back: p::peer_frame();
    a_message_between_replicas_comes_back: p::envelope();
    open_group_comes_back: g::open_group();
    a_stream_opened_by_a_member_comes_back: g::open_group().prop_map(Open::Group);
    what_members_say_comes_back: g::member_frame();
    what_members_are_told_comes_back: answer(g::standing());
}
