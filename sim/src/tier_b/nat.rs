//! One host's address translation: endpoint-independent mapping and filtering (RFC 4787), each
//! port of the host's one port outside, for UDP and TCP.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use etherparse::{IpNumber, Ipv4Header, TcpHeader, UdpHeader};

/// The first port outside.
const PORT_FIRST: u16 = 20_000;

/// A translation.
#[derive(Debug)]
pub struct Nat {
    inside: Ipv4Addr,
    outside: Ipv4Addr,
    /// Ports outside by protocol and port inside.
    ports: BTreeMap<(u8, u16), u16>,
    next: u16,
}

impl Nat {
    /// The host at `inside` is seen at `outside`.
    pub fn new(inside: Ipv4Addr, outside: Ipv4Addr) -> Self {
        Self { inside, outside, ports: BTreeMap::new(), next: PORT_FIRST }
    }

    /// Forgets every port; those to come are others.
    pub fn forget(&mut self) {
        self.ports.clear();
    }

    /// Rewrites a packet of the host's; false where it cannot be.
    pub fn outwards(&mut self, bytes: &mut Vec<u8>) -> bool {
        let (ports, next, outside) = (&mut self.ports, &mut self.next, self.outside);
        rewrite(bytes, |ip, source, _| {
            let port = ports.entry((ip.protocol.0, *source)).or_insert_with(|| {
                *next = next.checked_add(1).unwrap_or(PORT_FIRST);
                *next
            });
            *source = *port;
            ip.source = outside.octets();
            true
        })
    }

    /// Rewrites a packet for the host; false where nothing of the kind was sent from it.
    pub fn inwards(&self, bytes: &mut Vec<u8>) -> bool {
        rewrite(bytes, |ip, _, destination| {
            let known = self.ports.iter().find(|((protocol, _), outside)| {
                *protocol == ip.protocol.0 && **outside == *destination
            });
            let Some(((_, inside), _)) = known else { return false };
            *destination = *inside;
            ip.destination = self.inside.octets();
            true
        })
    }
}

/// Changes addresses and ports, and the checksums with them.
fn rewrite(
    bytes: &mut Vec<u8>,
    change: impl FnOnce(&mut Ipv4Header, &mut u16, &mut u16) -> bool,
) -> bool {
    rewritten(bytes, change).is_some_and(|packet| {
        *bytes = packet;
        true
    })
}

fn rewritten(
    bytes: &[u8],
    change: impl FnOnce(&mut Ipv4Header, &mut u16, &mut u16) -> bool,
) -> Option<Vec<u8>> {
    let (mut ip, rest) = Ipv4Header::from_slice(bytes).ok()?;
    let mut packet = Vec::with_capacity(bytes.len());
    if ip.protocol == IpNumber::UDP {
        let (mut udp, payload) = UdpHeader::from_slice(rest).ok()?;
        if !change(&mut ip, &mut udp.source_port, &mut udp.destination_port) {
            return None;
        }
        udp.checksum = udp.calc_checksum_ipv4(&ip, payload).ok()?;
        ip.header_checksum = ip.calc_header_checksum();
        ip.write(&mut packet).ok()?;
        udp.write(&mut packet).ok()?;
        packet.extend_from_slice(payload);
    } else if ip.protocol == IpNumber::TCP {
        let (mut tcp, payload) = TcpHeader::from_slice(rest).ok()?;
        if !change(&mut ip, &mut tcp.source_port, &mut tcp.destination_port) {
            return None;
        }
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, payload).ok()?;
        ip.header_checksum = ip.calc_header_checksum();
        ip.write(&mut packet).ok()?;
        tcp.write(&mut packet).ok()?;
        packet.extend_from_slice(payload);
    } else {
        return None;
    }
    Some(packet)
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 9, 2, 1);
    const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 10, 2, 1);
    const SERVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);

    fn udp(from: (Ipv4Addr, u16), to: (Ipv4Addr, u16)) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ipv4(from.0.octets(), to.0.octets(), 64).udp(from.1, to.1);
        let written = builder.write(&mut bytes, b"hello");
        assert!(written.is_ok());
        bytes
    }

    #[test]
    fn a_host_has_one_port_outside_until_the_translation_forgets_it() {
        let mut nat = Nat::new(INSIDE, OUTSIDE);
        let mut first = udp((INSIDE, 5000), (SERVER, 9));
        let mut second = udp((INSIDE, 5000), (SERVER, 10));
        assert!(nat.outwards(&mut first) && nat.outwards(&mut second));
        assert_eq!(first, udp((OUTSIDE, 20_001), (SERVER, 9)));
        assert_eq!(second, udp((OUTSIDE, 20_001), (SERVER, 10)));
        let mut answer = udp((SERVER, 9), (OUTSIDE, 20_001));
        assert!(nat.inwards(&mut answer));
        assert_eq!(answer, udp((SERVER, 9), (INSIDE, 5000)));
        nat.forget();
        assert!(!nat.inwards(&mut udp((SERVER, 9), (OUTSIDE, 20_001))));
        let mut third = udp((INSIDE, 5000), (SERVER, 9));
        assert!(nat.outwards(&mut third));
        assert_eq!(third, udp((OUTSIDE, 20_002), (SERVER, 9)));
    }
}
