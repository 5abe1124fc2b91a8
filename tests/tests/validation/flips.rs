//! A good model with bits turned over, hundreds of times: each is either served or refused for a reason.

use nuke_tests::{Repository, eventually};

use super::{PATIENT, builder, no_zombie_stays, tiny, while_the_neighbour_answers};

/// Damaged copies.
const COPIES: usize = 240;

/// The generator of Marsaglia, so that every run damages the same bits.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 16) as usize
}

#[test]
fn a_flipped_bit_is_served_or_refused_and_never_ends_the_host() {
    let (whole, mut state) = (tiny(), 0x5eed);
    let mut repository = Repository::new().model("tiny", "1", "tiny").model_yaml(PATIENT);
    for copy in 0..COPIES {
        let mut damaged = whole.clone();
        for _ in 0..=copy % 3 {
            let bit = next(&mut state) % (damaged.len() * 8);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        repository = repository.empty_version(&format!("flip-{copy}"), "1").file("model.onnx", damaged);
    }
    let mut server = builder(&repository).without_waiting().start();
    eventually("tiny serves", || super::neighbour(&server.client()).is_ok());
    let (mut ready, mut failed) = (0, 0);
    while_the_neighbour_answers(&server, || {
        eventually("all have been looked at", || {
            let index = server.post("/v2/repository/index", "", "").expect(200).json();
            let count = |state: &str| {
                index.as_array().unwrap().iter().filter(|entry| entry["state"] == state).count()
            };
            (ready, failed) = (count("READY"), count("UNAVAILABLE"));
            ready + failed == COPIES + 1
        });
    });
    for copy in 0..COPIES {
        let (state, reason) = server.state(&format!("flip-{copy}"), "1");
        assert!(state == "READY" || reason.contains("model.onnx"), "flip-{copy}: {state}: {reason}");
    }
    println!("of {COPIES} damaged models, {failed} were refused and {} are served", ready - 1);
    assert!(server.is_running() && failed > COPIES / 10);
    no_zombie_stays(&server);
}
