//! A member's stream: its signs of life in, and what it may own out, as soon as that changes.
//!
//! Invariant: a stream that ends says nothing about the member: only its silence, or its word, ends a membership.

use std::sync::Arc;

use millstream_core::groups::{Ask, Response};
use millstream_protocol::error::{ErrorCode, WireError};
use millstream_protocol::frame::FrameLimits;
use millstream_protocol::limits::MAX_MESSAGE_BYTES;
use millstream_protocol::message::group::{MemberFrame, OpenGroup, Standing};
use millstream_transport::{FrameReader, FrameWriter, StreamError};
use tokio::sync::{mpsc, watch};

use crate::broker::Broker;
use crate::coordinators::moved;
use crate::drivers::group::News;

const FRAME: FrameLimits = FrameLimits { message: MAX_MESSAGE_BYTES, body: 0 };

type Told = Result<Standing, WireError>;

/// Serves one stream until the member ends it, leaves or is fenced.
pub(crate) async fn serve(
    broker: &Arc<Broker>,
    open: OpenGroup,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> Result<(), StreamError> {
    let news = match broker.groups.attach(&open.group, open.member).await {
        Ok(news) => news,
        Err(error) => {
            writer.send(&Told::Err(error), []).await?;
            return writer.finish();
        }
    };
    let (answers, answered) = mpsc::channel(1);
    let (heard, told) =
        tokio::join!(hear(broker, &open, reader, answers), tell(news, answered, writer));
    heard.and(told)
}

/// Takes what the member says, one thing after the other, until either side is done.
async fn hear(
    broker: &Broker,
    open: &OpenGroup,
    reader: &mut FrameReader,
    answers: mpsc::Sender<Told>,
) -> Result<(), StreamError> {
    loop {
        let frame = tokio::select! {
            biased;
            () = answers.closed() => return Ok(()),
            frame = reader.recv::<MemberFrame>(FRAME) => frame?,
        };
        let Some(frame) = frame else { return Ok(()) };
        let (group, member) = (open.group.clone(), open.member);
        let ask = match frame.message {
            MemberFrame::Beat(beat) => Ask::Beat { group, member, beat },
            MemberFrame::Leave { forget } => Ask::Leave { group, member, forget },
        };
        let answer = match broker.groups.ask(&open.group, ask).await {
            Ok(Response::Standing(standing)) => Ok(standing),
            // It has left: the end of the stream says so.
            Ok(_) => return Ok(()),
            Err(error) => Err(error),
        };
        if answers.send(answer).await.is_err() {
            return Ok(());
        }
    }
}

/// Sends answers and news; an error is the last.
async fn tell(
    mut news: watch::Receiver<News>,
    mut answers: mpsc::Receiver<Told>,
    writer: &mut FrameWriter,
) -> Result<(), StreamError> {
    loop {
        let told = tokio::select! {
            biased;
            answer = answers.recv() => match answer {
                Some(answer) => answer,
                None => return writer.finish(),
            },
            changed = news.changed() => match changed {
                Ok(()) => news.borrow_and_update().clone().ok_or_else(fenced),
                Err(_) => Err(moved()),
            },
        };
        writer.send(&told, []).await?;
        if told.is_err() {
            return writer.finish();
        }
    }
}

fn fenced() -> WireError {
    let text =
        "the member was fenced: it was silent for too long, or too slow to let go of a partition";
    WireError::new(ErrorCode::MemberFenced, text)
}
