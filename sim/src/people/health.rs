//! An honest visitor, who asks whether the streamer is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::interval;

use super::line::{Line, say};

/// How often it asks.
const EVERY: Duration = Duration::from_millis(500);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// One who asks.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What it asks for, as http://10.9.0.1:8080/healthz.
    #[arg(long)]
    url: String,
}

/// Asks for ever, over a new connection each time: those who are new are turned away first.
pub(super) async fn run(args: Args) -> Result<(), String> {
    let client = reqwest::Client::builder().timeout(PATIENCE).pool_max_idle_per_host(0).build();
    let client = client.map_err(|error| error.to_string())?;
    let (asked, failed) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let mut ticks = interval(EVERY);
    loop {
        ticks.tick().await;
        let question = client.get(&args.url).send();
        let (ours, not_answered) = (Arc::clone(&asked), Arc::clone(&failed));
        tokio::spawn(async move {
            let answered = async { question.await?.error_for_status()?.bytes().await };
            if answered.await.is_err() {
                not_answered.fetch_add(1, Ordering::Relaxed);
            }
            ours.fetch_add(1, Ordering::Relaxed);
        });
        let [asked, failed] = [&asked, &failed].map(|count| count.load(Ordering::Relaxed));
        say(&Line::Health { asked, failed });
    }
}
