//! What people say, a line each.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// A line of a person's stdout, as JSON: `{"event":"joined","ms":81.2}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Line {
    /// A viewer asks to come in; its browser, if it has one, has started.
    Joining,
    /// A viewer has its first picture.
    Joined {
        /// Since it asked, in milliseconds.
        ms: f64,
    },
    /// A viewer is not let in, or no longer.
    Refused {
        /// The status of HTTP or RTSP.
        status: u16,
        /// What `Retry-After` says.
        retry_after_s: Option<u64>,
        /// The server's words.
        why: String,
    },
    /// A viewer did not get in for another reason.
    Failed {
        /// Which.
        why: String,
    },
    /// What a viewer has seen, every 200 ms.
    Look(Look),
    /// A viewer that had pictures has lost them, and joins again.
    Rejoining {
        /// How it lost them.
        why: String,
    },
    /// A viewer has left politely, as it was told.
    Left,
    /// It is over, for another reason than that all is done.
    Ended {
        /// Which.
        why: String,
    },
    /// What a sink of traffic has received, every 200 ms: of TCP what it carried, of UDP the whole IP
    /// packets.
    Bytes {
        /// Bytes from its start on.
        total: u64,
    },
    /// What became of the connections of one who is hostile, every second.
    Held {
        /// Those that are open now.
        open: u64,
        /// Those that the server has closed, from the start on.
        closed: u64,
        /// Those that did not come about, from the start on.
        failed: u64,
    },
    /// How well the streamer answers, every half second.
    Health {
        /// Questions whose answer came or whose second is over, from the start on.
        asked: u32,
        /// Those of them that were not answered within a second.
        failed: u32,
    },
    /// What a server of a probe has received, every second and at the end.
    Received(Received),
    /// What came back to a probe that pings, every second and at the end.
    Pinged {
        /// Packets sent.
        sent: u64,
        /// Packets that came back.
        received: u64,
        /// There and back.
        trip_ms: Option<Spread>,
    },
}

/// What a viewer has seen. Totals are from its process' start on, over all its joins.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// Pictures that came.
    pub frames: u64,
    /// Their media, without RTP's headers; `None` where nothing has come or the client does not
    /// tell.
    pub kbits: Option<f64>,
    /// RTP packets that did not come. It falls where one came late, or again.
    pub lost: u64,
    /// Pictures whose stamp could not be read.
    pub damaged: u64,
    /// Of each picture since the last look, where it is known: when it was here, in milliseconds
    /// since the Unix epoch, and how long it took from capture, in milliseconds.
    pub latencies: Vec<(f64, f64)>,
    /// Times without a picture of more than 200 ms that are over since the last look: when they were
    /// over, in milliseconds since the Unix epoch, and their length in milliseconds.
    pub gaps: Vec<(f64, f64)>,
    /// Since the last picture, or where there was none, since the first joining, in milliseconds.
    pub gap_ms: f64,
    /// The longest time without a picture after the first, in milliseconds, over rejoins too; the one
    /// that lasts counts.
    pub longest_gap_ms: f64,
}

/// What a server of a probe has received, from the start on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Received {
    /// Packets, each counted once.
    pub received: u64,
    /// Packets that were sent before one that came, or before the end, and did not come.
    pub lost: u64,
    /// Packets that came again.
    pub duplicated: u64,
    /// Packets that came after one that was sent later.
    pub reordered: u64,
    /// IP packets in kilobits a second, from the first to the last.
    pub kbps: f64,
    /// From sending to receiving.
    pub delay_ms: Option<Spread>,
    /// Whether the client has said that this is all.
    pub over: bool,
}

/// How times are spread, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// The 95th in a hundred.
    pub p95: f64,
    /// The longest.
    pub max: f64,
}

impl Spread {
    /// Of these times; `None` where there is none.
    pub fn of(ms: &[f64]) -> Option<Self> {
        let at = |q| lensline_clients::quantile(ms, q);
        (!ms.is_empty()).then(|| Self { min: at(0.0), p50: at(0.5), p95: at(0.95), max: at(1.0) })
    }
}

/// Says a line. That nobody listens any more is no fault: the end of stdin tells.
pub(super) fn say(line: &Line) {
    let mut stdout = io::stdout().lock();
    let said = serde_json::to_string(line).map(|text| writeln!(stdout, "{text}"));
    if matches!(said, Ok(Ok(()))) {
        let _ = stdout.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_said() -> Result<(), serde_json::Error> {
        let look = Look { frames: 3, latencies: vec![(1.5, 20.0)], ..Look::default() };
        let lines = [Line::Joining, Line::Look(look), Line::Ended { why: "told to".into() }];
        for line in lines {
            assert_eq!(serde_json::from_str::<Line>(&serde_json::to_string(&line)?)?, line);
        }
        assert_eq!(
            serde_json::to_string(&Line::Bytes { total: 7 })?,
            r#"{"event":"bytes","total":7}"#
        );
        Ok(())
    }
}
