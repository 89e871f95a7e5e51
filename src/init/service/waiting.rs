//! Traefik waits for the socket proxy: `depends_on`, in whichever form it is.

use super::{
    super::{
        Work,
        editor::Addition,
        stack,
        tree::{Content, Node},
    },
    Traefik,
};

impl Traefik<'_> {
    /// Traefik starts once the socket proxy answers.
    pub(super) fn wait_for(&self, work: &mut Work<'_>) -> Result<(), String> {
        const CONDITION: &str = "condition: service_healthy";
        let name = work.names.service.clone();
        if stack::keys(&self.value["depends_on"]).contains(&name) {
            return Ok(());
        }
        work.changes
            .insert(format!("+ {}.{name}", self.at("depends_on")));
        if let Some((key, list)) = self.entry("depends_on")?
            && let Content::List(items, flow) = &list.content
        {
            let items = items.iter().map(|item| work.editor.source(item).to_owned());
            let items: Vec<String> = items.collect();
            return self.conditions(work, (key, list), &items, *flow, &name);
        }
        self.add(work, "depends_on", &[Addition::nested(&name, CONDITION)])
    }

    /// A list of dependencies has no place for a condition: it becomes a mapping that says the same, and one more.
    fn conditions(
        &self,
        work: &mut Work<'_>,
        (key, list): (&Node, &Node),
        items: &[String],
        flow: bool,
        name: &str,
    ) -> Result<(), String> {
        const STARTED: &str = "{ condition: service_started }";
        const HEALTHY: &str = "{ condition: service_healthy }";
        let Content::List(nodes, _) = &list.content else {
            return Ok(());
        };
        if list.marked
            || nodes
                .iter()
                .any(|node| !matches!(node.content, Content::Scalar(_)))
        {
            return Err(format!("{} is no plain list", self.at("depends_on")));
        }
        if flow {
            if work.editor.source(list).contains('#') {
                return Err(format!(
                    "{} has comments in brackets",
                    self.at("depends_on")
                ));
            }
            let entries: String = items
                .iter()
                .map(|item| format!("{item}: {STARTED}, "))
                .collect();
            let text = format!("{{ {entries}{name}: {HEALTHY} }}");
            work.editor.replace(list.span.clone(), text, 3);
            return Ok(());
        }
        let outer = work.editor.column(key.span.start);
        let mut column = outer;
        for (node, item) in nodes.iter().zip(items) {
            let dash = work.editor.dash(node).ok_or("its dashes stand apart")?;
            column = work.editor.column(dash);
            // Keys stand deeper than the key above them; dashes need not.
            let deeper = if column > outer { 0 } else { work.editor.step };
            column += deeper;
            let text = format!("{}{item}: {STARTED}", " ".repeat(deeper));
            work.editor.replace(dash..node.span.end, text, 3);
        }
        let line = format!("{name}: {HEALTHY}");
        work.editor.append(list.span.end, column, &[line], 3);
        Ok(())
    }
}
