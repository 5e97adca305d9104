//! The allocator's policy: one arena, however many threads viewers bring.

use lensline_clients::{Lensline, Look, RtspReceiver};
use procfs::process::{MMPermissions, MMapPath, Process};

use crate::common::{SMALL, beside_others, frames_come, start};

/// How far an arena of glibc's reaches, beside the first, and what its address is a multiple of
/// (malloc/arena.c, `HEAP_MAX_SIZE` on 64-bit machines).
const ARENA_BYTES: u64 = 64 << 20;

fn further_arenas(server: &Lensline) -> usize {
    let process = Process::new(i32::try_from(server.pid).unwrap()).unwrap();
    let maps = process.maps().unwrap();
    let begins_one = maps.iter().filter(|map| {
        let writable = map.perms.contains(MMPermissions::READ | MMPermissions::WRITE);
        let nameless = map.pathname == MMapPath::Anonymous;
        map.address.0 % ARENA_BYTES == 0 && writable && nameless
    });
    begins_one.count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_keeps_to_one_arena() {
    let _machine = beside_others().await;
    let server = start(SMALL).await;
    let look = Look::Packets { framerate: 30 };
    let viewers = [(); 3].map(|()| RtspReceiver::start(&server.rtsp[0], "tcp", look));
    for viewer in &viewers {
        frames_come("RTSP", 10, || viewer.tally()).await;
    }
    assert_eq!(further_arenas(&server), 0);
}
