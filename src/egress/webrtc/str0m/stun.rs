//! The little of STUN (RFC 8489) that tells whose a check is, before anybody has verified it.

const BINDING_REQUEST: [u8; 2] = [0, 1];
const BINDING_SUCCESS: [u8; 2] = [1, 1];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER_BYTES: usize = 20;
const USERNAME: u16 = 6;

/// Whether a datagram is a success answer to a check; str0m answers verified ones only.
pub fn is_answer(datagram: &[u8]) -> bool {
    datagram.starts_with(&BINDING_SUCCESS)
}

/// The name of ours in a connectivity check: what stands before the colon in its USERNAME (RFC
/// 8445 section 7.2.2). `None` for anything else.
pub fn local_name(datagram: &[u8]) -> Option<&str> {
    let is_check = datagram.starts_with(&BINDING_REQUEST)
        && datagram.get(4..8).is_some_and(|cookie| cookie == MAGIC_COOKIE);
    let mut rest = datagram.get(HEADER_BYTES..).filter(|_| is_check)?;
    while let [kind_high, kind_low, high, low, after @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value = after.get(..length)?;
        if u16::from_be_bytes([*kind_high, *kind_low]) == USERNAME {
            return std::str::from_utf8(value).ok()?.split_once(':').map(|(ours, _)| ours);
        }
        rest = after.get(length.next_multiple_of(4)..)?;
    }
    None
}

/// The beginning of an answer, for tests.
#[cfg(test)]
pub const ANSWER: [u8; 2] = BINDING_SUCCESS;

/// A connectivity check with nothing in it but its name, for tests.
#[cfg(test)]
pub fn check(username: &str) -> Vec<u8> {
    let mut check = [&BINDING_REQUEST[..], &[0, 0], &MAGIC_COOKIE, &[7; 12]].concat();
    // SOFTWARE stands before it in some checks, and is padded to a multiple of four.
    check.extend([0x80, 0x22, 0, 3, b'a', b'b', b'c', 0]);
    check.extend(USERNAME.to_be_bytes());
    check.extend(u16::try_from(username.len()).unwrap().to_be_bytes());
    check.extend(username.as_bytes());
    check.resize(check.len().next_multiple_of(4), 0);
    check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_check_tells_whose_it_is() {
        assert_eq!(local_name(&check("ours:theirs")), Some("ours"));
        assert_eq!(local_name(&check("nobody")), None);
        assert_eq!(local_name(b"\x80\xe0hello"), None);
        assert_eq!(local_name(&[]), None);
    }

    proptest! {
        #[test]
        fn no_datagram_upsets_the_reader(
            head in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..120)
        ) {
            let check = [&BINDING_REQUEST[..], &[0, 0], &MAGIC_COOKIE, &bytes].concat();
            let _ = local_name(if head { &check } else { &bytes });
        }
    }
}
