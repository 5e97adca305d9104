//! Datagrams at the ports where viewers' packets come in.

use super::attack::{Attack, Door, Step};
use crate::common::Dice;

/// Datagrams of one burst at most.
const BURST_MAX: u64 = 30;

/// One burst.
pub fn throw(dice: &mut Dice) -> Attack {
    let (form, make): (_, fn(&mut Dice) -> Vec<u8>) = match dice.below(6) {
        0 => ("noise", |dice| dice.bytes(1_900)),
        1 | 2 => ("STUN", stun),
        3 => ("DTLS", dtls),
        4 => ("RTP", rtp),
        _ => ("RTCP", rtcp),
    };
    let steps = (0..=dice.below(BURST_MAX)).map(|_| Step::Say(make(dice))).collect();
    Attack::steps(Door::Udp, form, steps)
}

fn stun(dice: &mut Dice) -> Vec<u8> {
    let mut attributes = Vec::new();
    for _ in 0..dice.below(8) {
        let kinds = [
            0x0006, 0x0008, 0x0020, 0x0024, 0x0025, 0x8029, 0x802a, 0x8028, 0x0009, 0x000a, 0x0001,
            0xffff,
        ];
        let value = if dice.below(3) == 0 { b"abcd:efgh".to_vec() } else { dice.bytes(60) };
        let length =
            if dice.below(5) == 0 { dice.below(65_536) as u16 } else { value.len() as u16 };
        attributes.extend(u16::to_be_bytes(kinds[dice.below(kinds.len() as u64) as usize]));
        attributes.extend(length.to_be_bytes());
        attributes.extend(&value);
        attributes.resize(attributes.len().next_multiple_of(4), 0);
    }
    let kind = [0x0001, 0x0011, 0x0101, 0x0111, 0x0003, 0x3fff][dice.below(6) as usize];
    let length =
        if dice.below(5) == 0 { dice.below(65_536) as u16 } else { attributes.len() as u16 };
    let mut packet = u16::to_be_bytes(kind).to_vec();
    packet.extend(length.to_be_bytes());
    packet.extend([0x21, 0x12, 0xa4, 0x42]);
    packet.extend((0..12).map(|_| dice.below(256) as u8));
    packet.extend(attributes);
    packet
}

fn dtls(dice: &mut Dice) -> Vec<u8> {
    let kind = 20 + dice.below(5) as u8;
    let body = dice.bytes(600);
    let length = if dice.below(3) == 0 { dice.below(65_536) as u16 } else { body.len() as u16 };
    let version = dice.pick(&[&[0xfe_u8, 0xff][..], &[0xfe, 0xfd], &[0xfe, 0xfc], &[3, 3]]);
    [&[kind], version, &[0; 8], &length.to_be_bytes(), &body].concat()
}

fn rtp(dice: &mut Dice) -> Vec<u8> {
    let first = 0x80 | dice.below(64) as u8;
    let kind = [96, 97, 0, 127, 224][dice.below(5) as usize];
    [&[first, kind], dice.bytes(1_200).as_slice()].concat()
}

/// A compound of reports and feedback, of which some lie about their length.
pub fn rtcp(dice: &mut Dice) -> Vec<u8> {
    let mut packet = Vec::new();
    for _ in 0..=dice.below(6) {
        let kind = [200, 201, 202, 203, 204, 205, 206, 207][dice.below(8) as usize];
        let words = dice.below(12) as u16;
        let length = if dice.below(6) == 0 { dice.below(65_536) as u16 } else { words };
        packet.extend([0x80 | dice.below(32) as u8, kind]);
        packet.extend(length.to_be_bytes());
        packet.extend((0..words * 4).map(|_| dice.below(256) as u8));
    }
    packet
}
