//! A bounded number of places, some of them for each address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::admission::network;

/// Places that are handed out until all, or all of one address, are taken.
#[derive(Clone, Debug)]
pub(super) struct Seats {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    all_max: usize,
    per_address_max: usize,
    per_address: Mutex<HashMap<IpAddr, usize>>,
    taken: watch::Sender<usize>,
}

/// One place; dropping it frees it.
#[derive(Debug)]
pub(super) struct Seat {
    state: Arc<State>,
    address: IpAddr,
}

impl Seats {
    pub(super) fn new(all_max: usize, per_address_max: usize) -> Self {
        let state = State {
            all_max,
            per_address_max,
            per_address: Mutex::default(),
            taken: watch::Sender::new(0),
        };
        Self { state: Arc::new(state) }
    }

    /// A place for somebody at `address`, if there is one.
    pub(super) fn take(&self, address: IpAddr) -> Option<Seat> {
        let address = network(address);
        let mut per_address = self.state.lock();
        let here = per_address.get(&address).copied().unwrap_or(0);
        if *self.state.taken.borrow() >= self.state.all_max || here >= self.state.per_address_max {
            return None;
        }
        per_address.insert(address, here + 1);
        self.state.taken.send_modify(|taken| *taken += 1);
        Some(Seat { state: Arc::clone(&self.state), address })
    }

    /// Places that are taken, and places that there are.
    pub(super) fn taken(&self) -> (usize, usize) {
        (*self.state.taken.borrow(), self.state.all_max)
    }

    /// Resolves when no place is taken.
    pub(super) async fn empty(&self) {
        // The sender lives in `self`: it cannot be gone.
        let _ = self.state.taken.subscribe().wait_for(|taken| *taken == 0).await;
    }
}

impl State {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.per_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut per_address = self.state.lock();
        if let Some(here) = per_address.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                per_address.remove(&self.address);
            }
        }
        self.state.taken.send_modify(|taken| *taken -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn places_are_bounded_overall_and_per_address_and_come_back() {
        let seats = Seats::new(3, 2);
        let [here, there] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let first = seats.take(here).unwrap();
        let _second = seats.take(here).unwrap();
        assert!(seats.take(here).is_none(), "past the bound of one address");
        let third = seats.take(there).unwrap();
        assert!(seats.take(there).is_none(), "past the bound of all");
        drop(first);
        let fourth = seats.take(there).unwrap();
        drop((_second, third, fourth));
        seats.empty().await;
    }
}
