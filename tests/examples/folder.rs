//! One example in a folder and a project of its own.

use std::{fs, path::Path, time::Duration};

use serde_json::Value;
use testbed::{Container, Load, LoadOptions, Run, Stack, front::Kind, image};

/// An example that is tried.
pub struct Example {
    pub stack: Stack,
    /// The variable that names the image of its services.
    variable: &'static str,
    /// The image that is rolled to.
    pub second: String,
}

impl Example {
    /// A copy of the folder, whose services are the demo application's first version.
    pub fn new(name: &str, variable: &'static str) -> Self {
        let mut stack = match name {
            "file-provider" => Stack::fresh_usual(Kind::Pin, ""),
            _ => Stack::fresh_usual(Kind::Relabel, ""),
        };
        let folder = testbed::root().join("compose-examples");
        fs::remove_file(stack.path("front.yaml")).unwrap();
        copy(&folder.join(name), &stack.path(""));
        // The image under test may have another name.
        let compose = fs::read_to_string(stack.path("compose.yaml")).unwrap();
        let compose = compose.replace("rollout:latest", &image());
        fs::write(stack.path("compose.yaml"), compose).unwrap();
        stack.unset("COMPOSE_FILE").set(variable, "rollout-demo:v1");
        stack.host = format!("{name}.localhost");
        Self {
            stack,
            variable,
            second: "rollout-demo:v2".into(),
        }
    }

    /// Asks for the second version from here on.
    pub fn ask_for_the_second(&mut self) {
        self.stack.set(self.variable, &self.second);
    }

    /// Doctor finds no fault in the stack as it runs, and these checks alone warn.
    pub async fn is_well_but_for(&self, warnings: &[&str]) {
        let run = self.stack.rollout(&["doctor", "--output", "json"]).await;
        run.code(0);
        let findings = run
            .out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let warns = |own: &Value| own["level"] == "warn";
        let found: Vec<Value> = findings.filter(warns).collect();
        let found: Vec<&str> = found
            .iter()
            .filter_map(|own| own["check"].as_str())
            .collect();
        assert_eq!(found, warnings, "{}{}", run.out, run.text);
    }

    /// Rolls to the second version while its site is under load: nothing lost, and nothing mixed.
    pub async fn rolls(&mut self, services: &[&str]) -> Run {
        self.rolls_under_load(services, &["/"]).await
    }

    /// The same while clients ask these paths in turn.
    pub async fn rolls_under_load(&mut self, services: &[&str], paths: &[&str]) -> Run {
        let load = Load::start(LoadOptions {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            max_duration: Duration::from_secs(300),
            ..self.stack.load_options()
        });
        self.ask_for_the_second();
        let running = self.stack.start_rollout(services);
        // Several services, on a machine that has more to do.
        let run = running.wait_for(Duration::from_secs(300)).await;
        let report = load.stop().await;
        run.code(0);
        assert!(report.nothing_lost(), "{report}\n{}", run.text);
        let (_, version) = self.second.rsplit_once(':').unwrap();
        assert!(report.first_answer_of(version).is_some(), "{report}");
        run
    }

    /// The containers of several services, in the order of these.
    pub async fn replicas(&self, services: &[&str]) -> Vec<Container> {
        let mut all = Vec::new();
        for service in services {
            all.extend(self.stack.replicas(service).await);
        }
        all
    }

    /// `docker compose down -v` leaves nothing of the project.
    pub async fn taken_down(&self) {
        self.stack
            .compose(&["down", "--volumes", "--timeout", "1"])
            .await;
        let label = format!("label=com.docker.compose.project={}", self.stack.name);
        for list in [
            &["ps", "-aq"][..],
            &["network", "ls", "-q"],
            &["volume", "ls", "-q"],
        ] {
            let filter = ["--filter", label.as_str()];
            let left = self.stack.docker(&[list, &filter].concat()).await;
            assert_eq!(left, "", "{list:?}");
        }
        let lock = format!("name=rollout-lock.{}.", self.stack.name);
        let locks = self.stack.docker(&["ps", "-aq", "--filter", &lock]).await;
        assert_eq!(locks, "");
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
