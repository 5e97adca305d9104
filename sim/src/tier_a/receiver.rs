//! What a viewer makes of packets that may be lost: pictures, and requests. Sans-IO.
//!
//! A packet that is missing is asked for once (NACK, RFC 4585), as str0m does; a picture of which
//! one stays away is given up, and with it all up to the next key frame, which is asked for. A
//! picture counts as seen only if it is whole and all that it refers to was seen.

use std::collections::BTreeMap;
use std::time::Duration;

use super::net::Media;

/// How long a missing packet is waited for.
const PATIENCE: Duration = Duration::from_millis(250);

/// The least from one request for a key frame to the next.
const KEY_FRAME_EVERY: Duration = Duration::from_millis(1_000);

/// More packets than these in a row are not asked for again.
const NACK_MAX: u64 = 128;

/// Pictures that are put together at a time.
const PICTURES_MAX: usize = 64;

/// What a receiver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// The packets from the first number to the last.
    Again(u64, u64),
    /// A key frame.
    KeyFrame,
}

struct Picture {
    first: Media,
    came: u16,
}

/// The receiving end of a session over UDP.
#[derive(Default)]
pub struct Receiver {
    /// The number after the highest that came.
    expected: u64,
    missing: BTreeMap<u64, Duration>,
    pictures: BTreeMap<u64, Picture>,
    /// The picture to be seen next, where there is no gap before it.
    next: u64,
    /// Whether a key frame is needed.
    broken: bool,
    asked: Option<Duration>,
    lost: u32,
}

impl Receiver {
    /// Packets that never came.
    pub fn lost(&self) -> u32 {
        self.lost
    }

    /// A packet came: the pictures that can be seen now, in order, and what is to be asked for.
    pub fn receive(&mut self, now: Duration, media: Media, seen: &mut Vec<Media>) -> Option<Ask> {
        let mut ask = None;
        if media.number >= self.expected {
            let (first, last) = (self.expected, media.number);
            self.expected = last + 1;
            if last - first > NACK_MAX {
                self.lost += u32::try_from(last - first).unwrap_or(u32::MAX);
                self.broken = true;
            } else if last > first {
                self.missing.extend((first..last).map(|number| (number, now)));
                ask = Some(Ask::Again(first, last - 1));
            }
        } else if self.missing.remove(&media.number).is_none() {
            return None;
        }
        self.take(media, seen);
        ask.or_else(|| self.look(now))
    }

    /// Time has passed: what is to be asked for.
    pub fn look(&mut self, now: Duration) -> Option<Ask> {
        while let Some(entry) = self.missing.first_entry() {
            if now.saturating_sub(*entry.get()) < PATIENCE {
                break;
            }
            entry.remove();
            self.lost += 1;
            self.broken = true;
        }
        let due = self.asked.is_none_or(|asked| now.saturating_sub(asked) >= KEY_FRAME_EVERY);
        if self.broken && due {
            self.asked = Some(now);
            return Some(Ask::KeyFrame);
        }
        None
    }

    fn take(&mut self, media: Media, seen: &mut Vec<Media>) {
        if media.ordinal < self.next {
            return;
        }
        let picture =
            self.pictures.entry(media.ordinal).or_insert(Picture { first: media, came: 0 });
        picture.came += 1;
        let whole = picture.came == media.of;
        if whole && media.key && media.ordinal > self.next {
            // What was before it is given up.
            self.next = media.ordinal;
            self.pictures = self.pictures.split_off(&media.ordinal);
        }
        if whole && media.key && media.ordinal == self.next {
            self.broken = false;
            self.missing = self.missing.split_off(&(media.number - u64::from(media.index)));
        }
        while !self.broken
            && let Some(entry) = self.pictures.first_entry()
            && *entry.key() == self.next
            && entry.get().came == entry.get().first.of
        {
            seen.push(entry.remove().first);
            self.next += 1;
        }
        while self.pictures.len() > PICTURES_MAX {
            self.pictures.pop_first();
            self.broken = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of pictures of two each, every fifth a key frame.
    fn packets(pictures: u64) -> Vec<Media> {
        let packet = |number: u64| Media {
            number,
            ordinal: number / 2,
            seq: number / 2 + 1,
            key: (number / 2).is_multiple_of(5),
            index: (number % 2) as u16,
            of: 2,
            picture_bytes: 2000,
            captured: Duration::ZERO,
        };
        (0..pictures * 2).map(packet).collect()
    }

    /// Receives those of the numbers given, 10 ms apart; the pictures seen, and what was asked.
    fn run(numbers: impl IntoIterator<Item = u64>) -> (Vec<u64>, Vec<Ask>) {
        let (packets, mut receiver) = (packets(40), Receiver::default());
        let (mut seen, mut asked) = (Vec::new(), Vec::new());
        for (step, number) in (0..).zip(numbers) {
            let now = Duration::from_millis(step * 10);
            asked.extend(receiver.receive(now, packets[number as usize], &mut seen));
        }
        (seen.iter().map(|media| media.ordinal).collect(), asked)
    }

    #[test]
    fn whole_pictures_are_seen_in_order_and_copies_do_no_harm() {
        let (seen, asked) = run([0, 1, 1, 2, 2, 3, 0, 4, 5]);
        assert_eq!(seen, [0, 1, 2]);
        assert!(asked.is_empty());
    }

    #[test]
    fn a_missing_packet_is_asked_for_once_and_holds_up_what_refers_to_it() {
        let (seen, asked) = run([0, 1, 2, 4, 5, 6, 7, 3]);
        assert_eq!(seen, [0, 1, 2, 3]);
        assert_eq!(asked, [Ask::Again(3, 3)]);
    }

    #[test]
    fn nothing_is_seen_after_a_loss_until_the_next_key_frame_which_is_asked_for() {
        let (seen, asked) =
            run((0..80).filter(|number| *number != 3 && !(10..12).contains(number)));
        assert_eq!(seen[..2], [0, 10], "the key frame 5 is lost as well");
        assert_eq!(seen.last(), Some(&39));
        assert_eq!(asked, [Ask::Again(3, 3), Ask::Again(10, 11)]);
        let (seen, asked) = run((0..80).filter(|number| *number != 71 && *number != 1));
        assert_eq!(seen[0], 5);
        assert!(!asked.contains(&Ask::KeyFrame), "the next key frame came soon enough");
        let (_, asked) = run((1..10).chain(std::iter::repeat_n(9, 30)).chain([16]));
        assert!(asked.contains(&Ask::Again(0, 0)));
    }
}
