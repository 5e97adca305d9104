//! Somebody who watches, with any of the real clients.

use std::time::{Duration, Instant, SystemTime};

use lensline_clients::{Attention, Faces, GAP_MIN, Gap, JoinError, Newcomer, Tally, Viewer};
use serde::de::value::{Error as NoKind, StrDeserializer};
use serde::de::{Deserialize, IntoDeserializer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{sleep, timeout};

use super::line::{Line, Look, say};
use crate::plan::ViewerKind;

/// How often it says what it has seen.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How long it waits before it tries again, where the server does not say.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// How long it may take to leave.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(8);

/// Somebody who watches. It is told by its stdin: `join` (with `--wait`), `leave` (politely), `sleep` and `wake` (Chromium's
/// tab), `rebind` (str0m's socket).
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// With what it watches, as plans call it.
    #[arg(long, value_parser = kind)]
    kind: ViewerKind,
    /// The streamer's page, as http://10.9.0.1:8080/.
    #[arg(long)]
    http: String,
    /// The camera, as rtsp://10.9.0.1:8554/sim.
    #[arg(long)]
    rtsp: String,
    /// Pictures a second.
    #[arg(long)]
    framerate: u32,
    /// Comes in only when it is told to: `join`.
    #[arg(long)]
    wait: bool,
    /// Joins again where it sees nothing any more, or is not let in.
    #[arg(long)]
    rejoin: bool,
    /// How long the first picture may take.
    #[arg(long, default_value_t = 15.0)]
    join_timeout_s: f64,
    /// How long it may see nothing, after its first picture, before it joins again.
    #[arg(long, default_value_t = 15.0)]
    lost_after_s: f64,
}

fn kind(name: &str) -> Result<ViewerKind, NoKind> {
    let text: StrDeserializer<'_, NoKind> = name.into_deserializer();
    ViewerKind::deserialize(text)
}

/// How a stay ended.
enum End {
    Left,
    /// It never had a picture; it may try again after so long.
    NotIn(String, Duration),
    /// It had pictures.
    Lost(String),
    /// It was told to leave, and could not do so politely.
    Gone(String),
}

/// Watches until it is told to leave; with `rejoin`, whatever happens.
pub(super) async fn run(args: Args, mut commands: UnboundedReceiver<String>) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(Duration::from_secs_f64(args.join_timeout_s));
    // A connection that is kept ends at an address that the viewer may no longer have.
    let client = client.pool_max_idle_per_host(0);
    let client = client.build().map_err(|error| error.to_string())?;
    let http = format!("{}/", args.http.trim_end_matches('/'));
    let faces = Faces { http, rtsp: args.rtsp.clone(), client };
    if args.wait && !told_to_join(&mut commands).await {
        return Ok(());
    }
    let mut totals = Totals::new();
    loop {
        let why = match stay(&args, &faces, &mut commands, &mut totals).await {
            End::Left => {
                say(&Line::Left);
                return Ok(());
            }
            End::NotIn(_, wait) if args.rejoin => {
                sleep(wait).await;
                continue;
            }
            End::Lost(why) if args.rejoin => why,
            End::NotIn(why, _) | End::Lost(why) | End::Gone(why) => return Err(why),
        };
        say(&Line::Rejoining { why });
        totals.begin_anew();
    }
}

async fn stay(
    args: &Args,
    faces: &Faces,
    commands: &mut UnboundedReceiver<String>,
    totals: &mut Totals,
) -> End {
    let attention = Attention { framerate: args.framerate, closely: true };
    let mut newcomer = Newcomer::new(args.kind, attention);
    newcomer.prepare().await;
    say(&Line::Joining);
    let asked = Instant::now();
    let bound = Duration::from_secs_f64(args.join_timeout_s);
    let coming = timeout(bound, newcomer.join(faces));
    let mut viewer = tokio::select! {
        joined = coming => match joined {
            Ok(Ok(viewer)) => viewer,
            Ok(Err(error)) => return not_in(error),
            Err(_) => return not_in(JoinError::Failed(format!("no answer within {bound:?}"))),
        },
        () = told_to_leave(commands) => return End::Left,
    };
    let (mut seen, mut asleep) = (false, false);
    loop {
        while let Ok(command) = commands.try_recv() {
            match command.as_str() {
                "leave" => return leave(viewer, faces).await,
                "rebind" => viewer.rebind(),
                "sleep" => viewer.sleep().await,
                "wake" => viewer.wake().await,
                // The runner's and ours are one program: there are no others.
                _ => {}
            }
            asleep = (asleep || command == "sleep") && command != "wake";
        }
        let tally = match viewer.look(LOOK_EVERY).await {
            Ok(tally) => tally,
            Err(error) if seen => return End::Lost(words(&error)),
            Err(error) => return not_in(error),
        };
        if let Some(first) = tally.first.filter(|_| !std::mem::replace(&mut seen, tally.frames > 0))
        {
            say(&Line::Joined { ms: ms(first.saturating_duration_since(asked)) });
        }
        let waits = tally.last.unwrap_or(asked).elapsed();
        say(&Line::Look(totals.look(tally)));
        if !seen && waits > bound {
            return not_in(JoinError::Failed(format!("no picture within {bound:?}")));
        }
        let lost_after = Duration::from_secs_f64(args.lost_after_s);
        if args.rejoin && seen && waits > lost_after && !asleep {
            return End::Lost(format!("saw nothing for {lost_after:?}"));
        }
    }
}

/// Whether it is to come in; not, where it is to leave before.
async fn told_to_join(commands: &mut UnboundedReceiver<String>) -> bool {
    while let Some(command) = commands.recv().await {
        match command.as_str() {
            "join" => return true,
            "leave" => return false,
            // Nothing else can be done to one who is not there.
            _ => {}
        }
    }
    // The end of stdin is not ours to judge.
    std::future::pending().await
}

async fn told_to_leave(commands: &mut UnboundedReceiver<String>) {
    while let Some(command) = commands.recv().await {
        if command == "leave" {
            return;
        }
    }
    // The end of stdin is not ours to judge.
    std::future::pending().await
}

async fn leave(viewer: Viewer, faces: &Faces) -> End {
    match timeout(LEAVE_TIMEOUT, viewer.leave(faces)).await {
        Ok(Ok(())) => End::Left,
        Ok(Err(error)) => End::Gone(format!("left, but not politely: {}", words(&error))),
        Err(_) => End::Gone("left, but not politely: no answer".into()),
    }
}

fn not_in(error: JoinError) -> End {
    let why = words(&error);
    let wait = match error {
        JoinError::Refused { status, retry_after, body } => {
            say(&Line::Refused { status, retry_after_s: retry_after, why: body });
            retry_after.map_or(TRY_EVERY, Duration::from_secs).max(TRY_EVERY)
        }
        JoinError::Failed(why) => {
            say(&Line::Failed { why });
            TRY_EVERY
        }
    };
    End::NotIn(why, wait)
}

fn words(error: &JoinError) -> String {
    match error {
        JoinError::Refused { status, body, .. } => format!("refused with {status}: {body}"),
        JoinError::Failed(why) => why.clone(),
    }
}

/// What was seen over all joins.
struct Totals {
    began: Instant,
    /// Of the joins before this one.
    before: Counts,
    /// Of this one.
    now: Counts,
    /// The last picture of all.
    last: Option<Instant>,
    longest_gap: Duration,
}

#[derive(Clone, Copy, Default)]
struct Counts {
    frames: u64,
    bytes: u64,
    lost: u64,
    damaged: u64,
}

impl Totals {
    fn new() -> Self {
        let (before, now) = Default::default();
        Self { began: Instant::now(), before, now, last: None, longest_gap: Duration::ZERO }
    }

    /// The next look is at another client, which counts from zero.
    fn begin_anew(&mut self) {
        let now = std::mem::take(&mut self.now);
        self.before = self.before.plus(now);
    }

    fn look(&mut self, tally: Tally) -> Look {
        let mut gaps = tally.gaps;
        if let (0, Some(last), Some(first)) = (self.now.frames, self.last, tally.first) {
            // From the client before this one to this.
            let lasted = first.saturating_duration_since(last);
            gaps.extend((lasted > GAP_MIN).then_some(Gap { ended: first, lasted }));
        }
        self.now = Counts {
            frames: tally.frames,
            bytes: tally.bytes,
            lost: tally.packets_lost,
            damaged: tally.unreadable,
        };
        self.last = tally.last.or(self.last);
        let gap = self.last.unwrap_or(self.began).elapsed();
        let lasts = self.last.map(|_| gap);
        let longest = gaps.iter().map(|gap| gap.lasted).chain(lasts).max();
        self.longest_gap = self.longest_gap.max(longest.unwrap_or_default()).max(tally.longest_gap);
        let all = self.before.plus(self.now);
        Look {
            frames: all.frames,
            kbits: (all.bytes > 0).then_some(all.bytes as f64 * 8e-3),
            lost: all.lost,
            damaged: all.damaged,
            latencies: tally.latencies.iter().map(|one| (unix_ms(one.arrived), one.ms)).collect(),
            gaps: gaps.iter().map(|gap| (unix_ms(gap.ended), ms(gap.lasted))).collect(),
            gap_ms: ms(gap),
            longest_gap_ms: ms(self.longest_gap),
        }
    }
}

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            frames: self.frames + other.frames,
            bytes: self.bytes + other.bytes,
            lost: self.lost + other.lost,
            damaged: self.damaged + other.damaged,
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// What the wall clock showed at that moment, in milliseconds.
fn unix_ms(moment: Instant) -> f64 {
    let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    ms(unix.saturating_sub(moment.elapsed()))
}
