use std::net::{IpAddr, Ipv4Addr};

use lensline::admission::{self, Kind, Refusal};
use lensline::egress::session::End;

use super::*;

const WHO: Who = Who { viewer: 3, attempt: 1 };
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Patience = Patience {
    connect: Duration::from_secs(10),
    silence: Duration::from_secs(8),
    vanish: Duration::from_secs(8),
};

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

fn checker() -> Checker {
    let limits =
        Limits { ring_frames: 256, subscribers_max: 10, lag_frames_max: 30, join_frames_max: 8 };
    let door = admission::Limits {
        webrtc_sessions_max: 1,
        rtsp_sessions_max: 2,
        sessions_per_address_max: 2,
        sessions_per_user_max: 2,
        joins_per_second_max: 5,
    };
    Checker::new(["anna"; 20].into_iter(), limits, Duration::from_millis(33), door)
}

/// A checker that has seen a second of frames, the first and the last of them key frames, and a
/// subscriber that starts on the last.
fn running() -> Checker {
    let mut checker = checker();
    checker.steady(true);
    for seq in 1..=30 {
        checker.time(seconds(seq as f64 / 30.0));
        checker.published(seq, seq == 1 || seq == 30, seconds(seq as f64 / 30.0));
    }
    checker.subscribed(WHO);
    checker
}

fn publish(
    checker: &mut Checker,
    frames: std::ops::RangeInclusive<u64>,
    key: impl Fn(u64) -> bool,
) {
    for seq in frames {
        checker.time(seconds(seq as f64 / 30.0));
        checker.published(seq, key(seq), seconds(seq as f64 / 30.0));
    }
}

/// The rules that what is told breaks.
fn broken(tell: impl FnOnce(&mut Checker)) -> Vec<Rule> {
    let mut checker = running();
    tell(&mut checker);
    checker.violations.iter().map(|violation| violation.rule).collect()
}

fn counts(published: u64, delivered: u64, skipped: u64) -> Counts {
    Counts { published, delivered, skipped }
}

#[test]
fn what_is_right_is_no_violation() {
    let honest = |checker: &mut Checker| {
        checker.admitted(WHO, Kind::Webrtc, HERE, PATIENCE);
        checker.delivered(WHO, 30, true, 0);
        checker.rested(WHO, counts(1, 1, 0));
        publish(checker, 31..=31, |_| false);
        checker.woken(WHO);
        checker.delivered(WHO, 31, false, 0);
        checker.full(WHO);
        publish(checker, 32..=40, |seq| seq == 35);
        checker.delivered(WHO, 35, true, 3);
        checker.seen(WHO, 30, true);
        checker.seen(WHO, 31, false);
        checker.seen(WHO, 35, true);
        checker.asked(WHO);
        publish(checker, 41..=45, |seq| seq == 45);
        checker.ended(WHO, End::Left);
        checker.inside(0, 0, 0);
    };
    assert_eq!(broken(honest), []);
}

#[test]
fn an_account_that_is_wrong_is_noticed() {
    assert_eq!(broken(|checker| checker.rested(WHO, counts(1, 0, 0))), [Rule::Account]);
    assert_eq!(broken(|checker| checker.delivered(WHO, 30, true, 1)), [Rule::Account]);
    assert_eq!(broken(|checker| checker.delivered(WHO, 31, true, 1))[0], Rule::Account);
}

#[test]
fn a_first_frame_and_one_after_a_gap_that_are_no_key_frames_are_noticed() {
    let mut first = running();
    publish(&mut first, 31..=32, |_| false);
    first.delivered(WHO, 31, false, 1);
    assert_eq!(first.violations[0].rule, Rule::KeyFirst);
    let gap = |checker: &mut Checker| {
        checker.delivered(WHO, 30, true, 0);
        publish(checker, 31..=32, |_| false);
        checker.delivered(WHO, 32, false, 1);
    };
    assert_eq!(broken(gap), [Rule::KeyFirst]);
    let blurred = |checker: &mut Checker| {
        checker.seen(WHO, 30, true);
        checker.seen(WHO, 32, false);
    };
    assert_eq!(broken(blurred), [Rule::KeyFirst]);
}

#[test]
fn a_frame_that_is_too_old_is_noticed() {
    let late = |checker: &mut Checker| {
        checker.full(WHO);
        publish(checker, 31..=61, |_| false);
        checker.delivered(WHO, 30, true, 0);
    };
    assert_eq!(broken(late), [Rule::Lag]);
}

#[test]
fn a_sleeper_that_nobody_woke_and_one_that_is_woken_in_vain_are_noticed() {
    let lost = |checker: &mut Checker| {
        checker.delivered(WHO, 30, true, 0);
        checker.rested(WHO, counts(1, 1, 0));
        publish(checker, 31..=32, |_| false);
    };
    assert_eq!(broken(lost), [Rule::LostWakeUp]);
    let mut starved = running();
    for seq in 31..=60 {
        publish(&mut starved, seq..=seq, |_| false);
        starved.woken(WHO);
    }
    assert_eq!(starved.violations[0].rule, Rule::Starved);
}

#[test]
fn a_key_frame_that_is_owed_is_noticed_but_not_while_the_camera_is_away() {
    let asked = |checker: &mut Checker| {
        checker.full(WHO);
        checker.asked(WHO);
        publish(checker, 31..=49, |_| false);
    };
    assert_eq!(broken(asked)[0], Rule::KeyFrameOwed);
    let away = |checker: &mut Checker| {
        checker.full(WHO);
        checker.asked(WHO);
        publish(checker, 31..=40, |_| false);
        checker.steady(false);
        publish(checker, 41..=60, |_| false);
    };
    assert_eq!(broken(away), []);
}

#[test]
fn the_door_s_limits_and_its_refusals_are_checked() {
    let other = Who { viewer: 4, attempt: 1 };
    let more = |checker: &mut Checker| {
        checker.admitted(WHO, Kind::Webrtc, HERE, PATIENCE);
        checker.admitted(other, Kind::Webrtc, HERE, PATIENCE);
    };
    assert_eq!(broken(more), [Rule::Admission]);
    let crowd = |checker: &mut Checker| {
        for viewer in 0..11 {
            let who = Who { viewer, attempt: 1 };
            checker.admitted(who, Kind::Webrtc, HERE, PATIENCE);
            checker.ended(who, End::Left);
        }
    };
    assert_eq!(broken(crowd), [Rule::Admission]);
    for refusal in [
        Refusal::Sessions { kind: Kind::Webrtc, max: 1 },
        Refusal::Address { max: 2 },
        Refusal::Rate { max: 5 },
    ] {
        assert_eq!(broken(|checker| checker.refused(WHO, refusal, HERE)), [Rule::Admission]);
    }
    assert_eq!(broken(|checker| checker.inside(1, 0, 1)), [Rule::Left]);
    assert_eq!(broken(|checker| checker.inside(0, 0, 2)), [Rule::Left]);
}

#[test]
fn who_stays_too_long_and_who_is_sent_away_too_soon_is_noticed() {
    let never = |checker: &mut Checker| {
        checker.admitted(WHO, Kind::Webrtc, HERE, PATIENCE);
        checker.time(seconds(12.0));
        checker.overdue();
    };
    assert_eq!(broken(never), [Rule::Overdue]);
    let silent = |checker: &mut Checker| {
        checker.admitted(WHO, Kind::Webrtc, HERE, PATIENCE);
        checker.fed(WHO);
        checker.time(seconds(5.0));
        checker.heard(WHO);
        checker.time(seconds(13.0));
        checker.overdue();
        checker.time(seconds(13.6));
        checker.overdue();
    };
    assert_eq!(broken(silent), [Rule::Overdue]);
    let early = |checker: &mut Checker| {
        checker.admitted(WHO, Kind::Webrtc, HERE, PATIENCE);
        checker.fed(WHO);
        checker.ended(WHO, End::Vanished);
    };
    assert_eq!(broken(early), [Rule::EndedEarly]);
}

#[test]
fn time_and_numbers_that_go_back_are_noticed() {
    assert_eq!(broken(|checker| checker.time(seconds(0.1))), [Rule::Time]);
    assert_eq!(broken(|checker| checker.published(30, false, seconds(3.0)))[0], Rule::Time);
    assert_eq!(broken(|checker| checker.published(31, false, seconds(0.5)))[0], Rule::Time);
    let back = |checker: &mut Checker| {
        checker.seen(WHO, 30, true);
        checker.seen(WHO, 30, true);
    };
    assert_eq!(broken(back), [Rule::Time]);
}
