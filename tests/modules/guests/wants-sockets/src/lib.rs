//! Opens a connection: a broker refuses it when it is uploaded.

use millstream_guest::{Filter, Params, Record, export};

/// Wants sockets.
#[derive(Debug)]
pub struct WantsSockets;

impl Filter for WantsSockets {
    fn new(_: &Params) -> Result<Self, String> {
        Ok(Self)
    }

    fn keep(&mut self, _: &Record<'_>) -> bool {
        std::net::TcpStream::connect("127.0.0.1:9440").is_ok()
    }
}

export!(WantsSockets);
