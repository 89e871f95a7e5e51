//! Gives new containers the anonymous volumes of earlier ones, as Compose does when it recreates a container
//! (docker/compose, `buildContainerMountOptions`). Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Value, json};

/// A volume of an earlier container that replaces an empty anonymous one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    pub name: String,
    /// The path in the container.
    pub target: String,
    pub read_only: bool,
}

/// The volumes of an inspected container at the paths of anonymous volumes.
pub fn volumes(container: &Value, anonymous: &BTreeSet<String>) -> Vec<Volume> {
    let mounts = container["Mounts"].as_array().into_iter().flatten();
    let volumes = mounts.filter(|mount| mount["Type"] == "volume");
    let volumes = volumes.filter_map(|mount| {
        Some(Volume {
            name: mount["Name"].as_str()?.to_owned(),
            target: mount["Destination"].as_str()?.to_owned(),
            read_only: mount["RW"] == false,
        })
    });
    let is_wanted = |own: &Volume| anonymous.contains(trimmed(&own.target));
    volumes.filter(is_wanted).collect()
}

pub fn trimmed(path: &str) -> &str {
    path.trim_end_matches('/')
}

/// Assigns volumes to each new container: those of its own number, or else those of a number that is not used again.
pub fn by_number(earlier: Vec<(u32, Vec<Volume>)>, replicas: u32) -> BTreeMap<u32, Vec<Volume>> {
    let mut all = BTreeMap::new();
    let mut others = VecDeque::new();
    for (number, volumes) in earlier {
        match (1..=replicas).contains(&number) && !all.contains_key(&number) {
            true => drop(all.insert(number, volumes)),
            false => others.push_back(volumes),
        }
    }
    for number in 1..=replicas {
        if !all.contains_key(&number)
            && let Some(volumes) = others.pop_front()
        {
            all.insert(number, volumes);
        }
    }
    all
}

/// Adds volumes to the body of a creation, unless something else is mounted at the path.
pub fn mount(body: &mut Value, volumes: &[Volume]) {
    for volume in volumes {
        let host = &mut body["HostConfig"];
        if is_taken(host, &volume.target) {
            continue;
        }
        if !host["Mounts"].is_array() {
            host["Mounts"] = json!([]);
        }
        let Some(mounts) = host["Mounts"].as_array_mut() else {
            continue;
        };
        match mounts.iter_mut().find(|own| is_at(own, &volume.target)) {
            Some(own) => own["Source"] = volume.name.as_str().into(),
            None => mounts.push(json!({
                "Type": "volume",
                "Source": volume.name,
                "Target": volume.target,
                "ReadOnly": volume.read_only,
            })),
        }
    }
}

/// True if a named volume, or anything but a volume, is mounted at the path.
fn is_taken(host: &Value, target: &str) -> bool {
    let list = |key: &str| host[key].as_array().into_iter().flatten();
    let is_anonymous = |mount: &Value| {
        mount["Type"] == "volume" && mount["Source"].as_str().unwrap_or_default().is_empty()
    };
    let mut mounts = list("Mounts").filter(|own| is_at(own, target));
    let mut binds = list("Binds").filter_map(|bind| bind.as_str()?.split(':').nth(1));
    let mut memory = host["Tmpfs"].as_object().into_iter().flatten();
    mounts.any(|own| !is_anonymous(own))
        || binds.any(|own| trimmed(own) == trimmed(target))
        || memory.any(|(own, _)| trimmed(own) == trimmed(target))
}

fn is_at(mount: &Value, target: &str) -> bool {
    mount["Target"].as_str().map(trimmed) == Some(trimmed(target))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::replaced;

    fn volume(name: &str, target: &str) -> Volume {
        Volume {
            name: name.to_owned(),
            target: target.to_owned(),
            read_only: false,
        }
    }

    #[test]
    fn only_volumes_at_paths_of_anonymous_ones_are_taken_over() {
        let container = json!({"Mounts": [
            {"Type": "volume", "Name": "aa", "Destination": "/anonymous", "RW": true},
            {"Type": "volume", "Name": "data", "Destination": "/named", "RW": true},
            {"Type": "bind", "Source": "/etc", "Destination": "/of-image", "RW": false},
            {"Type": "volume", "Name": "bb", "Destination": "/of-image", "RW": false},
        ]});
        let wanted = BTreeSet::from(["/anonymous".to_owned(), "/of-image".to_owned()]);
        let read_only = Volume {
            read_only: true,
            ..volume("bb", "/of-image")
        };
        assert_eq!(
            volumes(&container, &wanted),
            [volume("aa", "/anonymous"), read_only]
        );
        assert_eq!(volumes(&json!({}), &wanted), []);
    }

    #[test]
    fn each_number_keeps_its_volumes_and_unused_ones_go_to_new_numbers() {
        let of = |name: &str| vec![volume(name, "/a")];
        let earlier = vec![(1, of("one")), (4, of("four")), (5, of("five"))];
        let expected = [(1, of("one")), (2, of("four")), (3, of("five"))];
        assert_eq!(by_number(earlier.clone(), 3), expected.into());
        assert_eq!(by_number(earlier, 1), [(1, of("one"))].into());
        assert_eq!(by_number(vec![(2, of("two"))], 1), [(1, of("two"))].into());
    }

    #[test]
    fn a_volume_replaces_only_an_anonymous_one() {
        let mut body = json!({"HostConfig": {
            "Binds": ["/srv:/bind:ro"],
            "Tmpfs": {"/memory": ""},
            "Mounts": [
                {"Type": "volume", "Target": "/anonymous/"},
                {"Type": "volume", "Source": "data", "Target": "/named"},
            ],
        }});
        let all = ["/anonymous", "/named", "/bind", "/memory", "/of-image"];
        mount(&mut body, &all.map(|target| volume("v", target)));
        assert_eq!(
            body["HostConfig"]["Mounts"],
            json!([
                {"Type": "volume", "Source": "v", "Target": "/anonymous/"},
                {"Type": "volume", "Source": "data", "Target": "/named"},
                {"Type": "volume", "Source": "v", "Target": "/of-image", "ReadOnly": false},
            ])
        );
        let mut bare = json!({"Image": "a"});
        mount(&mut bare, &[volume("v", "/a")]);
        assert_eq!(bare["HostConfig"]["Mounts"][0]["Source"], "v");
    }

    proptest! {
        #[test]
        fn no_container_or_body_causes_a_panic(
            container in replaced(json!({"Mounts": [{"Type": "volume", "Name": "a", "Destination": "/a", "RW": true}]})),
            body in replaced(json!({"HostConfig": {"Binds": ["/b:/b"], "Mounts": [{"Type": "volume", "Target": "/a"}]}})),
        ) {
            let found = volumes(&container, &BTreeSet::from(["/a".to_owned()]));
            let mut body = body;
            if body["HostConfig"].is_object() {
                mount(&mut body, &found);
            }
        }
    }
}
