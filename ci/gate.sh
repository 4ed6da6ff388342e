#!/usr/bin/env bash
# What ci/action.yml runs: `pcbench gate`, its summary where the pipeline shows it, and its exit code made a decision.
#
# From the environment: BASE, HEAD (may be empty), IMPLEMENTATION, OPTIONS (words), UNDECIDED (warn or fail), and the
# runner's GITHUB_OUTPUT, GITHUB_STEP_SUMMARY and RUNNER_TEMP, of which none is needed elsewhere.
set -uo pipefail

folder="${RUNNER_TEMP:-$(mktemp -d)}"
markdown="$folder/pcbench-gate.md"
json="$folder/pcbench-gate.json"
read -ra options <<< "${OPTIONS:-}"
arguments=("${BASE:?name the commit to compare with in BASE}")
[ -n "${HEAD:-}" ] && arguments+=("$HEAD")

pcbench gate --implementation "${IMPLEMENTATION:?name the adapter in IMPLEMENTATION}" \
    --markdown "$markdown" --json "$json" "${options[@]}" -- "${arguments[@]}"
code=$?

if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$markdown" ]; then
    cat "$markdown" >> "$GITHUB_STEP_SUMMARY"
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
    printf 'exit-code=%s\nmarkdown=%s\njson=%s\n' "$code" "$markdown" "$json" >> "$GITHUB_OUTPUT"
fi
case "$code" in
    3 | 4)
        # Neither good nor bad: where machines are shared, noise must not block a merge unless somebody wants it to.
        if [ "${UNDECIDED:-warn}" = warn ]; then
            echo "::warning title=pcbench gate::undecided, exit code $code: too little data (3) or host too noisy (4)"
            exit 0
        fi
        ;;
esac
exit "$code"
