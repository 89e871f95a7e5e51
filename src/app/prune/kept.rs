//! What is kept of one service that is gone: image tags, records, and containers that were never started.

use std::collections::BTreeSet;

use bollard::models::ContainerSummary;

use super::gone::marked;
use crate::{
    docker::engine::{Engine, summary},
    error::Result,
    model::{ServiceKey, label},
    report::kept::{Item, What},
    state::{
        keep,
        revisions::Revisions,
        store::{self, File},
    },
};

#[derive(Debug)]
pub struct Kept {
    pub key: ServiceKey,
    pub has_records: bool,
    revisions: Revisions,
    /// The tags that still name the recorded images.
    tags: BTreeSet<String>,
    containers: Vec<Container>,
}

#[derive(Debug)]
struct Container {
    id: String,
    name: String,
    what: What,
}

/// What is kept of these services. Repositories that are in use are left out: two services may share one.
pub async fn of(
    engine: &Engine,
    image: &str,
    gone: &[&ServiceKey],
    listed: &[ContainerSummary],
    in_use: &BTreeSet<String>,
) -> Result<Vec<Kept>> {
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for (key, files) in gone
        .iter()
        .zip(store::look_each(engine, image, gone).await?)
    {
        all.push(of_one(engine, key, &files, listed, in_use).await?);
    }
    all.retain(|own| !own.items(false).is_empty());
    Ok(all)
}

async fn of_one(
    engine: &Engine,
    key: &ServiceKey,
    files: &[File],
    listed: &[ContainerSummary],
    in_use: &BTreeSet<String>,
) -> Result<Kept> {
    let mut revisions = Revisions::read(files);
    let repository = keep::repository(key);
    let found = match in_use.contains(&repository) {
        true => Default::default(),
        false => engine.tags(&repository).await?,
    };
    let named = |tag: &str, id: &str| found.get(tag).is_some_and(|own| own == id);
    revisions
        .list
        .retain(|own| named(&own.image.kept, &own.image.id));
    let tags = revisions.list.iter().map(|own| own.image.kept.clone());
    let containers = listed
        .iter()
        .filter(|own| marked(own).as_ref() == Some(key));
    Ok(Kept {
        key: key.clone(),
        has_records: !files.is_empty(),
        tags: tags.collect(),
        revisions,
        containers: containers.filter_map(container).collect(),
    })
}

fn container(own: &ContainerSummary) -> Option<Container> {
    Some(Container {
        id: own.id.clone()?,
        name: summary::name(own),
        what: match summary::label(own, label::ROLE)? {
            "lock" => What::Lock,
            _ => What::Request,
        },
    })
}

impl Kept {
    pub fn items(&self, removed: bool) -> Vec<Item> {
        let item = |what, name: &str| Item {
            project: self.key.project.clone(),
            service: self.key.service.clone(),
            what,
            name: name.to_owned(),
            removed,
        };
        let tags = self.tags.iter().map(|tag| item(What::Image, tag));
        let folder = format!("{}:{}", store::volume(), store::relative(&self.key));
        let records = self.has_records.then(|| item(What::Records, &folder));
        let containers = self.containers.iter();
        let containers = containers.map(|own| item(own.what, &own.name));
        tags.chain(records).chain(containers).collect()
    }

    pub async fn remove_images(&self, engine: &Engine) -> Result<()> {
        keep::forget(engine, &self.key, self.revisions.list.iter().collect()).await
    }

    pub async fn remove_containers(&self, engine: &Engine) -> Result<()> {
        for own in &self.containers {
            engine.discard(&own.id).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use hyper::{Response, StatusCode};
    use serde_json::json;

    use super::*;
    use crate::{
        docker::http::{Body, full, json as answer, refusal},
        event::Events,
        fake_engine::FakeEngine,
        state::{
            lock,
            revisions::{ImageRecord, Revision},
        },
    };

    /// Two revisions: the tag of the first still names its image, that of the second names another one now.
    fn files() -> Vec<File> {
        let revision = |number: u64| Revision {
            number,
            rollout: "r".to_owned(),
            image: ImageRecord {
                id: format!("sha256:{number}"),
                kept: format!("rollout/shop-web:{number}"),
                ..ImageRecord::default()
            },
            ..Revision::default()
        };
        let file = |number| File::of(&format!("revisions/{number}-r.json"), &revision(number));
        vec![file(1), file(2)]
    }

    fn table(method: &str, path: &str) -> Response<Body> {
        let image = |tags: &[&str], id: &str| {
            json!({"Id": id, "ParentId": "", "RepoTags": tags, "RepoDigests": [], "Created": 0, "Size": 0,
                "SharedSize": 0, "Labels": {}, "Containers": 0})
        };
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match (method, &parts[..]) {
            ("GET", ["version"]) => answer(StatusCode::OK, &json!({"ApiVersion": "1.41"})),
            ("GET", ["volumes", _]) => answer(
                StatusCode::OK,
                &json!({"Name": "v", "Driver": "local", "Mountpoint": "", "Labels": {}, "Scope": "local", "Options": {}}),
            ),
            ("POST", ["containers", "create"]) => {
                answer(StatusCode::CREATED, &json!({"Id": "made", "Warnings": []}))
            }
            ("GET", ["containers", "made", "archive"]) => {
                Response::new(full(store::archive("web", &files())))
            }
            ("GET", ["images", "json"]) => answer(
                StatusCode::OK,
                &json!([
                    image(
                        &["rollout/shop-web:1", "rollout/shop-web:9", "app:v1"],
                        "sha256:1"
                    ),
                    image(&["rollout/shop-web:2"], "sha256:other"),
                ]),
            ),
            ("GET", _) => refusal(StatusCode::NOT_FOUND, "No such thing"),
            _ => answer(StatusCode::OK, &json!([])),
        }
    }

    fn of_role(role: &str, of: &str) -> ContainerSummary {
        let labels = [(label::ROLE, role), (lock::KEY, of)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
        ContainerSummary {
            id: Some(format!("{role}-{of}")),
            names: Some(vec![format!("/rollout-{role}.{of}")]),
            labels: Some(HashMap::from(labels)),
            ..ContainerSummary::default()
        }
    }

    async fn found(in_use: &[&str]) -> (FakeEngine, Engine, Vec<Kept>) {
        let fake = FakeEngine::start(|method, path, _| table(method, path));
        let engine = Engine::connect(fake.endpoint(), &Events::new(Vec::new()))
            .await
            .unwrap();
        let key = ServiceKey {
            project: "shop".to_owned(),
            service: "web".to_owned(),
        };
        let listed = [
            of_role("lock", "shop/web"),
            of_role("lock", "blog/web"),
            of_role("state", "shop/web"),
        ];
        let in_use = in_use.iter().map(|own| (*own).to_owned()).collect();
        let kept = of(&engine, "any", &[&key], &listed, &in_use).await.unwrap();
        (fake, engine, kept)
    }

    fn names(kept: &[Kept]) -> Vec<String> {
        let items = kept.iter().flat_map(|own| own.items(false));
        items.map(|own| own.name).collect()
    }

    #[tokio::test]
    async fn tags_that_still_name_their_images_records_and_its_own_lock_are_kept_for_a_service() {
        let (_fake, _engine, kept) = found(&[]).await;
        let records = format!("{}:shop/web", store::volume());
        let lock = "rollout-lock.shop/web";
        assert_eq!(names(&kept), ["rollout/shop-web:1", &records, lock]);
        let (_fake, _engine, kept) = found(&["rollout/shop-web"]).await;
        assert_eq!(names(&kept), [&records, lock]);
    }

    #[tokio::test]
    async fn only_what_is_listed_is_removed_from_the_engine() {
        let (fake, engine, kept) = found(&[]).await;
        fake.asked.lock().unwrap().clear();
        for own in &kept {
            own.remove_images(&engine).await.unwrap();
            own.remove_containers(&engine).await.unwrap();
        }
        let path = |(method, path, _): (String, String, serde_json::Value)| {
            let path = path.split('?').next().unwrap().to_owned();
            format!("{method} {}", path.trim_start_matches("/v1.41"))
        };
        let changes: Vec<String> = fake.changes().into_iter().map(path).collect();
        assert_eq!(
            changes,
            [
                "DELETE /images/rollout/shop-web:1",
                "DELETE /containers/lock-shop/web"
            ]
        );
    }
}
