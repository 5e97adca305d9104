//! Joins and leaves at random stages, polite and vanishing: threads, descriptors and guards come
//! back to where they were. `ci/churn` is the long form, which looks at memory as well.

use std::collections::BTreeMap;
use std::time::Duration;

use lensline_clients::{Faces, Stage};

use crate::common::{Dice, Held, SMALL, alone, start};

/// Twice as many as there are stages.
const JOINS: usize = 40;

/// Joins before the baseline is taken: pools are filled, plugins are loaded.
const WARM_UP: usize = 12;

/// How long the server may take to come to rest: its timeouts here are 2 s, those of RTSP's
/// session pool and of idle threads in tokio and GLib are longer.
const REST_TIMEOUT: Duration = Duration::from_secs(90);

const CONFIG: &str = "[webrtc]\nnegotiation_timeout_ms = 2000\nsilence_timeout_ms = 2000\n\
    [limits]\njoins_per_second_max = 200\n";

/// One join and leave.
async fn come_and_go(faces: &Faces, dice: &mut Dice) -> &'static str {
    let stage = Stage::ALL[dice.below(Stage::ALL.len() as u64) as usize];
    let linger = Duration::from_millis(dice.below(120));
    let visited = stage.visit(faces, linger).await;
    assert_eq!(visited, Ok(()), "{}", stage.name());
    stage.name()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_and_goes_at_any_stage_leaves_nothing_behind() {
    let _machine = alone().await;
    let server = start(&format!("{CONFIG}{SMALL}")).await;
    let mut dice = Dice::thrown();
    let faces = server.faces();
    for _ in 0..WARM_UP {
        come_and_go(&faces, &mut dice).await;
    }
    let baseline = Held::at_rest(&server, None, Duration::from_secs(25)).await;
    assert_eq!(baseline.sessions, 0.0, "{baseline:?}\n{}", server.log());
    println!("baseline {baseline:?}");
    let mut kinds = BTreeMap::new();
    for _ in 0..JOINS {
        *kinds.entry(come_and_go(&faces, &mut dice).await).or_insert(0) += 1;
    }
    let rest = Held::at_rest(&server, Some(&baseline), REST_TIMEOUT).await;
    println!("after {JOINS} joins {rest:?}\n{kinds:#?}");
    let metrics = server.metrics().await;
    println!("ends: {:?}", metrics.by("lensline_sessions_total", "end"));
    let log = server.log();
    log.lines().filter(|line| !line.contains("INFO")).for_each(|line| println!("{line}"));
    assert_eq!(metrics.sum("lensline_teardowns_stuck_total", &[]), 0.0);
    assert!(rest.within(&baseline), "{rest:?} of {baseline:?}\n{}", server.log());
    assert_eq!(server.stop().await.code, Some(0));
}
