//! The list of scenarios in which node agents lose or double lines, as tests: the real binary of the
//! agent on real files, and a collector that fails as it is told.
//!
//! `cargo test -p taffrail-sim --test it scenarios -- --nocapture` prints a line for each row;
//! `docs/scenarios.md` has the table ([`page`]). Rows that need what this machine does not give (root, a mount)
//! say so and pass.

mod content;
mod crash;
mod discovery;
mod fuse;
mod metadata;
mod page;
mod resources;
mod rotation;
mod store;
mod suite;
mod truncation;
mod volumes;
mod world;

use suite::{Row, verdict};

/// The table, and a test for each of its rows.
macro_rules! rows {
    ($($room:ident :: $name:ident $id:literal $what:literal;)*) => {
        /// All rows, in the order of the list.
        const ROWS: &[Row] = &[$(Row {
            name: stringify!($name),
            id: $id,
            what: $what,
            room: stringify!($room),
            run: |world| Box::pin($room::$name(world)),
        }),*];
        $(
            #[test]
            fn $name() {
                verdict(stringify!($name));
            }
        )*
    };
}

rows! {
    rotation::r1_rename_create "R1" "five rotations, a second apart";
    rotation::r2_two_rotations_between_looks "R2" "two rotations without a pause";
    rotation::r3_compressed_while_the_sink_is_away "R3" "four rotations with compression, collector away";
    rotation::r4_burst_rotated_at_once "R4" "a burst, rotated at once and compressed";
    rotation::r5_rotated_while_down "R5" "agent stopped, one rotation";
    rotation::r6_two_rotations_while_down "R6" "agent stopped, two rotations, the older compressed";
    rotation::r7_pieces_across_a_rotation "R7" "the pieces of a line on both sides of a rotation";
    rotation::r8_renamed_and_back "R8" "renamed and back: the runtime could not reopen";
    rotation::r9_writer_stays_with_the_renamed "R9" "the writer stays with the renamed file for 5 s";
    rotation::r10_rotated_away_while_frozen "R10" "agent frozen; rotated, compressed and removed meanwhile";
    rotation::r11_temporary_file_of_compression "R11" "compression seen in its middle";
    rotation::r12_twenty_rotations_two_files "R12" "twenty rotations, two files kept";
    rotation::r13_unreadable_after_logrotate "R13" "a new file that cannot be read at first";
    rotation::r14_sink_unavailable_and_rotated "R14" "collector unavailable, 8 MB at once, rotated";
    rotation::r15_rotated_away_while_the_sink_is_away "R15" "collector away, two files kept, agent killed";
    truncation::t1_truncated_with_an_equal_head "T1" "truncated, the same head, more than before";
    truncation::t2_truncated_and_shorter "T2" "truncated, the same head, less than before";
    truncation::t3_hole_of_a_writer_without_append "T3" "truncated under a writer without O_APPEND: a hole";
    truncation::t4_sparse_terabyte "T4" "a hole of a terabyte";
    truncation::t5_unlinked_and_made_again "T5" "unlinked and made again under the same name";
    truncation::t6_inode_reused_while_down "T6" "agent stopped, the inode given to a new log";
    truncation::t7_equal_heads "T7" "two files with equal first 4 KiB";
    truncation::t8_five_bytes_then_the_rest "T8" "five bytes without an end, completed later";
    truncation::t9_small_file_that_never_grows "T9" "a file of 300 bytes that never grows";
    truncation::t10_two_names_for_one_file "T10" "a hard link and a symbolic link to the same file";
    truncation::t11_copy_beside "T11" "a copy of the log beside it";
    truncation::t12_two_logs_swap_names "T12" "two logs swap their names";
    crash::c1_killed_after_delivery "C1" "SIGKILL right after delivery";
    crash::c2_killed_with_full_buffers "C2" "collector unavailable, SIGKILL, collector back";
    crash::c3_two_hundred_kills "C3" "200 SIGKILLs at random moments, lines all the while";
    crash::c6_damaged_spool "C6" "the spool cut and damaged while the agent is down";
    crash::c7_state_folder_deleted "C7" "the state folder deleted under the running agent";
    crash::c8_two_agents_one_folder "C8" "two agents on one state folder";
    crash::c9_ends_in_time_with_a_backlog "C9" "SIGTERM with a backlog";
    crash::c10_stop_write_start "C10" "stop, write, start";
    store::s1_unavailable "S1" "collector unavailable for 9 s";
    store::s2_accepts_and_hangs "S2" "collector accepts and hangs";
    store::s4_one_line_is_refused "S4" "400 for batches with one bad line";
    store::s5_too_large "S5" "413 for batches of more than seven lines";
    store::s6_busy_for_three_seconds "S6" "429 with Retry-After of 3 s";
    store::s7_reset_after_store "S7" "connection reset after the batch was stored";
    store::s8_slower_than_the_writers "S8" "collector slower than the writers";
    store::s9_name_without_address_then_another "S9" "the collector's name has no address, then another";
    store::s11_clock_steps "S11" "the clock steps an hour on, then two back";
    store::s12_errors_after_store "S12" "500 after the batch was stored, 500, 502";
    store::s13_garbage "S13" "answers that are no HTTP";
    store::s14_half_answers "S14" "answers that break off";
    store::s15_refuses_and_comes_back "S15" "connections refused, now and then";
    store::s16_certificate_of_a_stranger "S16" "TLS: a certificate that nobody vouches for, then a good one";
    content::f1_pieces_of_two_streams "F1" "pieces of two streams, mixed";
    content::f2_last_words_without_an_end "F2" "a last piece whose end never comes";
    content::f3_pieces_six_seconds_apart "F3" "pieces six seconds apart";
    content::f4_a_mebibyte_in_pieces "F4" "lines of about 1 MiB in pieces of 16 KiB";
    content::f5_thirty_megabytes_without_an_end "F5" "30 MB without an end of line";
    content::f6_bytes_that_are_no_text "F6" "bytes that are no text";
    content::f7_lines_without_a_head "F7" "lines without the head of the runtime";
    content::f8_tags_offsets_fractions "F8" "tags, time offsets, fractions of seconds";
    content::f9_docker_json "F9" "docker's JSON, split and escaped";
    content::f10_odd_but_legal "F10" "10,000 fields, depth 200, colours, CRLF";
    content::f13_times_are_those_of_the_runtime "F13" "times out of order and of two hours ago";
    discovery::d1_pods_that_live_a_second "D1" "five pods that live a second each";
    discovery::d2_pod_deleted_while_the_sink_is_away "D2" "a pod writes 4 MB and is deleted, collector away";
    discovery::d2_pod_deleted_then_the_agent_killed "D2b" "a pod is deleted, then the agent killed, collector away";
    discovery::d3_two_thousand_files "D3" "2,000 files, two lines each";
    discovery::d4_five_hundred_pods_at_once "D4" "500 pods at once";
    discovery::d5_crash_loop "D5" "twenty restarts of a container";
    discovery::d6_files_from_before "D6" "files that were there before the first start";
    discovery::d7_no_inotify_watches "D7" "no inotify watches to be had";
    discovery::d8_event_queue_overflows "D8" "the queue of inotify overflows";
    discovery::d9_few_descriptors "D9" "64 descriptors, 300 files";
    discovery::d10_root_is_a_link_to_nowhere "D10" "/var/log/pods leads to what is not mounted";
    discovery::d11_folders_fifos_sockets_devices "D11" "folders, FIFOs, sockets, devices with names of logs";
    discovery::d12_many_files_in_one_folder "D12" "5,000 files in a folder, ten of them written";
    discovery::d13_unreadable_for_a_while "D13" "no right to read for a while";
    discovery::d14_odd_names "D14" "spaces, newlines, bytes that are no text, 255 bytes";
    discovery::d15_idle_for_a_day "D15" "a file idle for a day, then one line";
    metadata::m1_api_down_at_start "M1" "API server down at start, back after 3 s";
    metadata::m1_api_never_answers "M1b" "API server never answers";
    metadata::m2_pod_deleted_after_its_last_line "M2" "pods deleted 100 ms after their last line";
    metadata::m3_same_name_new_labels "M3" "a pod of the same name with other labels";
    metadata::m4_label_changed_in_place "M4" "a label changed in place";
    metadata::m5_trouble_with_the_watch "M5" "410, bookmark, 401, 403, refused, half-open";
    metadata::m6_static_pod "M6" "a static pod, its folder named by a hash";
    metadata::m7_init_and_ephemeral_containers "M7" "init, sidecar and ephemeral containers";
    metadata::m8_cost_at_the_api_server "M8" "300 changes: one list, one watch";
    volumes::v1_mounted_after_the_agent_started "V1" "a volume mounted after the agent started";
    volumes::v2_unmounted_after_its_pod "V2" "a pod deleted, its volume unmounted";
    volumes::v3_a_volume_that_hangs "V3" "a network volume that hangs; agent stopped and started meanwhile";
    volumes::v7_volume_removed_with_its_pod "V7" "a pod deleted, its emptyDir removed at once";
    volumes::v8_links_out_of_the_volume "V8" "links out of a volume";
    resources::o2_state_folder_read_only "O2" "a state folder that cannot be written";
    resources::o4_one_shouts_others_whisper "O4" "one pod writes 20 MB, others a line each";
    resources::o6_churn "O6" "1,800 pods come and go";
    resources::o8_little_cpu "O8" "a twentieth of a core";
}
