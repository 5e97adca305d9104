use std::time::Duration;

use super::{Link, Loss, Shape, Trace};

/// Sends `packets` of 1250 bytes, one every `every_ms`, and gives back when each arrived.
fn run(shape: Shape, seed: u64, packets: u64, every_ms: f64) -> (Vec<(u64, Duration)>, Link<u64>) {
    let mut link = Link::new(shape, seed);
    let mut arrivals = Vec::new();
    let drain = |link: &mut Link<u64>, until: Duration, arrivals: &mut Vec<_>| {
        while let Some(due) = link.due().filter(|due| *due <= until) {
            while let Some(arrival) = link.receive(due) {
                arrivals.push((arrival.packet, due));
            }
        }
    };
    for packet in 0..packets {
        let now = Duration::from_secs_f64(packet as f64 * every_ms / 1e3);
        drain(&mut link, now, &mut arrivals);
        link.send(now, packet, 1250);
    }
    drain(&mut link, Duration::MAX, &mut arrivals);
    (arrivals, link)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[test]
fn a_rate_and_a_delay_space_packets_and_a_full_queue_drops_the_last() {
    let shape =
        Shape { rate_kbps: Some(1000.0), queue_ms: 300.0, delay_ms: 50.0, ..Shape::default() };
    // 1250 bytes take 10 ms at 1 Mbit/s: at one every 5 ms half of them are too many.
    let (arrivals, link) = run(shape, 1, 400, 5.0);
    assert_eq!(ms(arrivals[0].1), 60.0);
    let last = arrivals.last().map(|(packet, at)| ms(*at) - *packet as f64 * 5.0);
    assert!(last.is_some_and(|last| (350.0..=370.0).contains(&last)), "{last:?}");
    let counts = link.counts();
    assert_eq!(counts.delivered + counts.dropped, 400);
    assert!((165..=175).contains(&counts.dropped), "{counts:?}");
}

#[test]
fn a_new_rate_holds_for_what_is_queued_already() {
    let shape = Shape { rate_kbps: Some(100.0), queue_ms: 1e4, ..Shape::default() };
    let mut link = Link::new(shape.clone(), 1);
    for packet in 0..10u64 {
        link.send(Duration::ZERO, packet, 1250);
    }
    assert_eq!(link.queue_delay(Duration::ZERO), Duration::from_secs(1));
    let later = Duration::from_millis(50);
    link.reshape(later, Shape { rate_kbps: Some(1000.0), ..shape });
    assert_eq!(link.queue_delay(later), Duration::from_millis(95));
    let mut came = 0;
    while link.receive(Duration::from_millis(145)).is_some() {
        came += 1;
    }
    assert_eq!(came, 10);
}

#[test]
fn loss_is_as_frequent_and_as_bursty_as_asked_for() {
    let bursts =
        Loss::Bursts { good_packets: 190.0, bad_packets: 10.0, bad_loss: 1.0, good_loss: 0.0 };
    for loss in [Loss::Independent(0.05), bursts] {
        let (arrivals, link) = run(Shape { loss, ..Shape::default() }, 7, 100_000, 1.0);
        let counts = link.counts();
        assert_eq!(counts.lost + arrivals.len() as u64, 100_000);
        let share = counts.lost as f64 / 1e5;
        assert!((share - loss.mean()).abs() < 0.01, "{loss:?}: {share}");
        let bursts = arrivals.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1).count();
        let mean_burst = counts.lost as f64 / bursts as f64;
        let expected = if loss == Loss::Independent(0.05) { 1.05 } else { 10.0 };
        assert!((mean_burst / expected - 1.0).abs() < 0.15, "{loss:?}: {mean_burst}");
    }
}

#[test]
fn jitter_delays_and_does_not_reorder_but_reordering_does() {
    let shape = Shape { delay_ms: 20.0, jitter_ms: 5.0, ..Shape::default() };
    let (arrivals, _) = run(shape.clone(), 3, 10_000, 2.0);
    assert!(arrivals.is_sorted_by_key(|(packet, _)| *packet));
    let delays: Vec<_> =
        arrivals.iter().map(|(packet, at)| ms(*at) - *packet as f64 * 2.0).collect();
    let (low, high) =
        delays.iter().fold((f64::MAX, 0f64), |(low, high), ms| (low.min(*ms), high.max(*ms)));
    assert!(low >= 20.0 - 1e-6 && high <= 50.0 + 1e-6 && high - low > 15.0, "{low} {high}");
    let (arrivals, link) = run(Shape { reorder: 0.1, ..shape }, 3, 10_000, 2.0);
    assert!(!arrivals.is_sorted_by_key(|(packet, _)| *packet));
    assert!((900..1100).contains(&link.counts().reordered));
}

#[test]
fn a_blackout_duplicates_and_corruption_are_counted() {
    let (arrivals, link) = run(Shape { blackout: true, ..Shape::default() }, 1, 100, 1.0);
    assert!(arrivals.is_empty() && link.counts().lost == 100);
    let (arrivals, link) = run(Shape { duplicate: 0.5, ..Shape::default() }, 1, 10_000, 1.0);
    assert!((14_500..15_500).contains(&arrivals.len()));
    assert_eq!(link.counts().duplicated as usize, arrivals.len() - 10_000);
    let (_, link) = run(Shape { corrupt: 0.1, ..Shape::default() }, 1, 10_000, 1.0);
    assert!((900..1100).contains(&link.counts().corrupted));
}

#[test]
fn a_trace_lets_1500_bytes_through_at_each_of_its_moments_over_and_over() {
    let trace = Some(Trace::Milliseconds(vec![10, 10, 40, 100]));
    let mut link = Link::new(Shape { trace, queue_ms: 1e4, ..Shape::default() }, 1);
    for packet in 0..6u64 {
        link.send(Duration::ZERO, packet, if packet < 4 { 1500 } else { 750 });
    }
    let mut moments = Vec::new();
    while let Some(due) = link.due() {
        while link.receive(due).is_some() {
            moments.push(ms(due));
        }
    }
    // Two small ones share the fifth delivery.
    assert_eq!(moments, [10.0, 10.0, 40.0, 100.0, 110.0, 110.0]);
}

#[test]
fn one_seed_is_one_fate_and_another_is_another() {
    let shape = Shape { loss: Loss::Independent(0.1), jitter_ms: 5.0, ..Shape::default() };
    let fates = |seed| run(shape.clone(), seed, 1000, 1.0).0;
    assert_eq!(fates(5), fates(5));
    assert_ne!(fates(5), fates(6));
}
