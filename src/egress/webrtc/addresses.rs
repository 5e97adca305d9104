//! The addresses that candidates are offered on.
//!
//! Told to libnice rather than left to it: each address is a socket per viewer, link-local IPv6
//! addresses are of no use without a zone, and the configuration may name interfaces.

use std::net::IpAddr;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;

use super::candidate::is_sendable;

/// The addresses of this machine on the named interfaces (all where none is named), in the order
/// of the system. Loopback counts where it is named, and where there is nothing else: a machine
/// without a network still shows its own viewer.
pub fn local(interfaces: &[String]) -> std::io::Result<Vec<IpAddr>> {
    let all: Vec<(IpAddr, String)> = getifaddrs()?.filter_map(|one| usable(&one)).collect();
    Ok(choose(&all, interfaces))
}

fn usable(one: &InterfaceAddress) -> Option<(IpAddr, String)> {
    let address = one.address.as_ref()?;
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    let address = v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))?;
    let up = one.flags.contains(InterfaceFlags::IFF_UP) && is_sendable(address);
    up.then(|| (address, one.interface_name.clone()))
}

fn choose(all: &[(IpAddr, String)], interfaces: &[String]) -> Vec<IpAddr> {
    let named = |name: &String| interfaces.is_empty() || interfaces.contains(name);
    let chosen = |loopback: bool| {
        let wanted = all.iter().filter(|(address, name)| {
            named(name) && (address.is_loopback() == loopback || interfaces.contains(name))
        });
        wanted.map(|(address, _)| *address).collect::<Vec<_>>()
    };
    let outward = chosen(false);
    if outward.is_empty() { chosen(true) } else { outward }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Vec<(IpAddr, String)> {
        [("127.0.0.1", "lo"), ("::1", "lo"), ("192.0.2.2", "eth0"), ("2001:db8::2", "wlan0")]
            .map(|(address, name)| (address.parse().unwrap(), name.to_owned()))
            .to_vec()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn loopback_counts_only_where_it_is_named_or_alone() {
        let addresses = |names: &[String], rows: &[(IpAddr, String)]| {
            choose(rows, names).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(addresses(&[], &table()), ["192.0.2.2", "2001:db8::2"]);
        assert_eq!(addresses(&names(&["wlan0"]), &table()), ["2001:db8::2"]);
        assert_eq!(addresses(&names(&["lo", "eth0"]), &table()), ["127.0.0.1", "::1", "192.0.2.2"]);
        assert_eq!(addresses(&[], &table()[..2]), ["127.0.0.1", "::1"]);
        assert!(addresses(&names(&["eth7"]), &table()).is_empty());
    }

    #[test]
    fn this_machine_has_an_address() {
        assert!(!local(&[]).unwrap().is_empty());
    }
}
