//! The overlay files of version 0.1.0 are read with the same meaning.

use std::{fs, sync::Arc};

use super::store::Store;
use crate::{
    fixtures::{EPOCH, ROLLOUT, of_0_1_0},
    overlay::{Claim, Health, Labels, Overlay, key_by_hand},
};

/// The overlay in the file that version 0.1.0 leaves in a phase. Writing it again gives the same bytes.
async fn left_in(phase: &str) -> Arc<Overlay> {
    let text = of_0_1_0(&format!("overlay/{phase}.json"));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("overlay.json");
    fs::write(&file, &text).unwrap();
    let store = Store::open(directory.path()).unwrap();
    store.probe().await.unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    store.current()
}

/// The containers of `shop/web` in these files, two old ones and two new ones, by the two characters that their ids repeat.
fn containers() -> [(&'static str, String, Labels); 4] {
    let new = Labels::from([("io.rollout.id".to_owned(), ROLLOUT.to_owned())]);
    ["a1", "a2", "b1", "b2"].map(|short| {
        let labels = short.starts_with('b').then(|| new.clone());
        (short, short.repeat(32), labels.unwrap_or_default())
    })
}

/// Its stage, the containers that it hides, and those that it reports healthy while Docker says `starting`.
fn meaning(overlay: &Overlay) -> (&str, Vec<&str>, Vec<&str>) {
    let claim = &overlay.claims["shop/web"];
    assert_eq!((claim.rollout.as_str(), claim.epoch), (ROLLOUT, EPOCH));
    assert_eq!(overlay.last_epochs["shop/web"], EPOCH);
    let (mut hidden, mut healthy) = (Vec::new(), Vec::new());
    for (short, id, mut labels) in containers() {
        hidden.extend(overlay.hides(&id, &labels).then_some(short));
        let health = overlay.apply(&id, &mut labels, true);
        healthy.extend((health == Some(Health::Healthy)).then_some(short));
    }
    (&claim.stage, hidden, healthy)
}

#[tokio::test]
async fn each_file_of_version_0_1_0_means_what_it_meant() {
    let none = Vec::<&str>::new();
    let hold = left_in("hold").await;
    assert_eq!(meaning(&hold), ("hold", vec!["b1", "b2"], none.clone()));
    let cutover = left_in("cutover").await;
    let expected = ("cutover", vec!["a1", "a2"], vec!["b1", "b2"]);
    assert_eq!(meaning(&cutover), expected);
    assert!(cutover.may_fall_back("shop/web") && !hold.may_fall_back("shop/web"));
    let back = left_in("back").await;
    assert_eq!(meaning(&back), ("back", vec!["b1", "b2"], none.clone()));
    let shown = left_in("shown").await;
    assert_eq!(meaning(&shown), (Claim::SHOWN, none.clone(), none.clone()));
    // Docker has reported the health of one of them already.
    let settled = left_in("settled").await;
    assert_eq!(meaning(&settled), (Claim::SETTLED, none, vec!["b2"]));
    let generations = [&hold, &cutover, &back, &shown, &settled].map(|overlay| overlay.generation);
    assert_eq!(generations, [1, 2, 3, 2, 6]);
}

#[tokio::test]
async fn what_version_0_1_0_has_set_by_hand_stays() {
    let overlay = left_in("by-hand").await;
    let id = "c1".repeat(32);
    let expected = [
        ("traefik.enable", "false"),
        ("traefik.http.services.web.loadbalancer.server.weight", "0"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(overlay.labels_by_hand(&id), expected.into());
    assert_eq!(overlay.hidden_by_hand(), [id.as_str()].into());
    assert!(overlay.claims[&key_by_hand(&id)].is_by_hand());
}
