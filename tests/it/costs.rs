//! What the README says that the gateway costs.

#[path = "../../benches/steps/sample.rs"]
#[expect(dead_code, reason = "the benches measure more of it")]
mod sample;

use std::path::Path;
use std::process::Command;

use mailtrixy_gateway::pipeline::Trail;

use crate::costs::sample::Sample;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn admitting_a_known_token_allocates_as_often_as_the_readme_says() {
    let sample = Sample::new();
    let head = sample.head();
    let counted = allocation_counter::measure(|| {
        let mut trail = Trail::default();
        drop((sample.admit(&head, &mut trail), trail));
    });
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let sentence = format!("takes {} allocations", counted.count_total);
    assert!(readme.contains(&sentence), "a request {sentence} on its way to a permit");
}

#[test]
fn the_comparison_in_the_readme_and_its_picture_are_those_that_were_measured() {
    let check = Command::new(root().join("benches/compare")).arg("--check").output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
}
