//! The page of all settings of a program, made from its table: what `--help` says, for a browser.

use std::fmt::Write;

use super::{Schema, flag};

impl Schema {
    /// A section in Markdown: a heading, and tables of the settings and of the sections of the file.
    #[must_use]
    pub fn reference(&self) -> String {
        let mut page = String::new();
        self.write_reference(&mut page).expect("writing to a string does not fail");
        page
    }

    fn write_reference(&self, page: &mut String) -> std::fmt::Result {
        writeln!(page, "## `{}`\n\n{}\n", self.program, cell(self.about))?;
        writeln!(page, "| flag | key | environment | value | default | reload | what it is |")?;
        writeln!(page, "|---|---|---|---|---|---|---|")?;
        let env = self.env_name("config");
        writeln!(page, "| `--config` |  | `{env}` | PATH |  |  | File with settings in YAML |")?;
        for (flag, value, what) in [
            (
                "--check",
                "PATH",
                "Check the settings (and this file), say all that is wrong, and end",
            ),
            ("--print-config", "", "Print the settings in effect and where each is from, and end"),
        ] {
            writeln!(page, "| `{flag}` |  |  | {value} |  |  | {what} |")?;
        }
        for setting in self.settings {
            let default = match setting.default {
                Some(default) => format!("`{}`", cell(default)),
                None if setting.required => "required".to_owned(),
                None => String::new(),
            };
            writeln!(
                page,
                "| `{}` | `{}` | `{}` | {} | {default} | {} | {} |",
                flag(setting.key),
                setting.key,
                self.env_name(setting.key),
                setting.kind.placeholder(),
                reload(setting.live),
                cell(setting.help),
            )?;
        }
        if !self.sections.is_empty() {
            writeln!(page, "\n| only in the file | reload | what it is |\n|---|---|---|")?;
            for section in self.sections {
                let (key, reload) = (section.key, reload(section.live));
                writeln!(page, "| `{key}` | {reload} | {} |", cell(section.help))?;
            }
        }
        Ok(())
    }
}

/// When a new value in the file holds.
fn reload(live: bool) -> &'static str {
    if live { "yes" } else { "restart" }
}

/// Text that does not end the cell of a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use crate::config::{Kind, Schema, Section, Setting};

    const SETTINGS: [Setting; 2] = [
        Setting::required("data_dir", Kind::Path, "a|b"),
        Setting::new("a.wait", Kind::Duration, Some("2m"), "How long").live(),
    ];

    #[test]
    fn every_setting_and_section_has_its_row() {
        let schema = Schema {
            program: "prog",
            about: "Does things.",
            env_prefix: "PROG",
            settings: &SETTINGS,
            sections: &[Section { key: "a.list", live: true, help: "A list" }],
        };
        let page = schema.reference();
        for row in [
            "## `prog`\n\nDoes things.\n",
            "| `--config` |  | `PROG_CONFIG` | PATH |  |  | File with settings in YAML |\n",
            "| `--data-dir` | `data_dir` | `PROG_DATA_DIR` | PATH | required | restart | a\\|b |\n",
            "| `--a-wait` | `a.wait` | `PROG_A_WAIT` | DURATION | `2m` | yes | How long |\n",
            "| `a.list` | yes | A list |\n",
        ] {
            assert!(page.contains(row), "{row} in\n{page}");
        }
    }
}
