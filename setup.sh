#!/usr/bin/env bash
# Makes .venv and installs the pinned packages into it; on Linux also OpenBLAS, and for tests a
# browser and npm, when it may.
# Safe to run again: what is already there is left alone.
#
#   ./setup.sh              what the application needs
#   ./setup.sh --dev        also pytest, ruff, mypy, import-linter, Playwright with Chromium, npm
#   ./setup.sh --quiet      say nothing when there is nothing to do
#   ./setup.sh --no-system  leave the system's packages alone
set -euo pipefail
cd "$(dirname "$0")"

group=app quiet=no system=yes
for argument in "$@"; do
    case $argument in
        --dev) group=dev ;;
        --quiet) quiet=yes ;;
        --no-system) system=no ;;
        *) echo "使い方: ./setup.sh [--dev] [--quiet] [--no-system]" >&2; exit 2 ;;
    esac
done
pins_of() { if [ "$1" = dev ]; then echo requirements-dev.txt; else echo requirements.txt; fi; }
pins=$(pins_of $group)

say() { echo "[準備] $*"; }
fail() { echo "[準備] エラー: $1" >&2; echo "       次にすること: $2" >&2; exit 1; }

# What was installed, and where: a changed pin or a moved folder installs again.
fingerprint() { { pwd; cat "$(pins_of "$1")" pyproject.toml; } | cksum; }
stamp() { echo ".venv/.installed-$1"; }
is_current() { [ -x .venv/bin/python ] && [ "$(cat "$(stamp "$1")" 2>/dev/null)" = "$(fingerprint "$1")" ]; }

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}
may_be_root() { [ "$(id -u)" = 0 ] || { command -v sudo >/dev/null && sudo -n true 2>/dev/null; }; }

# --- Python ---------------------------------------------------------------------------------

is_usable_python() {
    "$1" - >/dev/null 2>&1 <<'PYTHON'
import platform, sys
import venv, ensurepip
assert (3, 11) <= sys.version_info[:2] <= (3, 13)
assert sys.platform != "darwin" or platform.machine() == "arm64"
PYTHON
}

find_python() {
    local name
    for name in "${PYTHON:-}" python3.12 python3.13 python3.11 python3 python; do
        if [ -n "$name" ] && is_usable_python "$name"; then echo "$name"; return; fi
    done
    return 1
}

make_environment() {
    if [ -d .venv ]; then
        is_usable_python .venv/bin/python && { has_pip || .venv/bin/python -m ensurepip >/dev/null; return; }
        # Only what this script made is thrown away.
        ls .venv/.installed-* >/dev/null 2>&1 || fail "今ある .venv のPythonが使えません（3.11〜3.13が必要です）。" \
            ".venv フォルダを消してから、もう一度 ./setup.sh を実行してください。"
        say "今ある .venv が使えなくなっているため、作り直します。"
        rm -rf .venv
    fi
    create_environment
    say ".venv を作りました（$(.venv/bin/python --version)）。"
}

has_pip() { .venv/bin/python -m pip --version >/dev/null 2>&1; }

create_environment() {
    local python
    if python=$(find_python); then
        "$python" -m venv .venv
    elif command -v uv >/dev/null; then
        uv venv --quiet --seed --python 3.12 .venv
    elif command -v apt-get >/dev/null; then
        fail "Python 3.11〜3.13（venv付き）が見つかりません。" "sudo apt-get install python3 python3-venv を実行してください。"
    else
        fail "Python 3.11〜3.13 が見つかりません。" \
            "https://www.python.org/downloads/ から入れるか、brew install python@3.12 を実行してください（Macでは Apple Silicon 版）。"
    fi
}

# --- packages -------------------------------------------------------------------------------

# uv is several times faster than pip; where it cannot be had, or does not know the local
# package mirror, pip does the same.
find_uv() {
    if command -v uv >/dev/null; then echo uv; return; fi
    if [ ! -x .venv/bin/uv ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            "$(grep '^uv==' requirements-dev.txt)" >/dev/null 2>&1 || return 1
    fi
    echo .venv/bin/uv
}

# Where Python may not keep what it compiles, as in many containers, every job would compile
# transformers anew: 1.5 s at each start. pip always compiles.
[ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || export UV_COMPILE_BYTECODE=1

install_packages() {
    local uv
    say "パッケージを入れています（${pins}、数分かかることがあります）…"
    if uv=$(find_uv) && "$uv" pip install --quiet --python .venv/bin/python -r "$pins" -e .; then
        return
    fi
    say "uv では入れられないため、pip で入れます…"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -r "$pins" -e . ||
        fail "パッケージを入れられませんでした。" "ネットワークの接続を確認して、もう一度実行してください。途中まで入ったものはそのまま使われます。"
}

# --- OpenBLAS (Linux) -----------------------------------------------------------------------

has_openblas() {
    .venv/bin/python -c \
        'import sys; from mlx_finetuning.utils import blas; sys.exit(blas.preload().state != "loaded")'
}

openblas_command() {
    if command -v apt-get >/dev/null; then echo "apt-get install -y libopenblas0-pthread"
    elif command -v dnf >/dev/null; then echo "dnf install -y openblas-threads"
    elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm openblas"
    elif command -v zypper >/dev/null; then echo "zypper --non-interactive install libopenblas_pthreads0"
    fi
}

# Debian's images come without package lists; elsewhere the same word would upgrade the system.
refresh_lists() { command -v apt-get >/dev/null && as_root apt-get update >/dev/null 2>&1; }

# Whether a system package could be installed; "$@" is the package manager's command.
install_from_system() {
    [ $# -gt 0 ] && [ $system = yes ] && may_be_root || return 1
    as_root "$@" </dev/null >/dev/null 2>&1 ||
        { refresh_lists && as_root "$@" </dev/null >/dev/null 2>&1; }
}

install_openblas() {
    local command
    command=$(openblas_command)
    say "高速な行列計算ライブラリ OpenBLAS を入れています…"
    # shellcheck disable=SC2086
    if install_from_system $command && has_openblas; then say "OpenBLAS を入れました。"; return; fi
    say "足りないもの: OpenBLAS（なくても動きますが、CPUでの学習が10倍ほど遅くなります）"
    say "  入れるには: sudo ${command:-（お使いのディストリビューションの openblas パッケージ）}"
}

# --- kernels for training on a CPU (Linux) --------------------------------------------------

# Without a compiler everything works, slower; `doctor` says so.
build_kernels() {
    [ "$(uname)" != Linux ] || .venv/bin/python -m mlx_finetuning.utils.native_kernels || true
}

# --- a browser with Japanese fonts, for the tests (Linux) -----------------------------------

has_browser() {
    local name
    for name in chromium-headless-shell chromium chromium-browser google-chrome google-chrome-stable; do
        command -v $name >/dev/null && return
    done
    return 1
}

# Debian's build without windows takes half the processor time; the tests take it first. Where the system's
# lists do not know it, or nobody may install it, another one will do.
has_best_browser() {
    command -v chromium-headless-shell >/dev/null && return
    has_browser || return
    ! { [ $system = yes ] && may_be_root && apt-cache show chromium-headless-shell >/dev/null 2>&1; }
}

browser_command() {
    if command -v apt-get >/dev/null; then
        echo "apt-get install -y --no-install-recommends ${1:-chromium} fonts-noto-cjk"
    elif command -v dnf >/dev/null; then echo "dnf install -y chromium google-noto-sans-cjk-fonts"
    elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm chromium noto-fonts-cjk"
    fi
}

install_browser() {
    local command
    command=$(browser_command)
    say "画面のテストに使う Chromium と日本語フォントを入れています…"
    # shellcheck disable=SC2046,SC2086
    if install_from_system $(browser_command chromium-headless-shell) || has_browser ||
        install_from_system $command && has_browser; then
        say "画面のテストに使う Chromium があります。"
        return
    fi
    say "足りないもの: Chromium（なければ、ブラウザを使うテストを飛ばします）"
    say "  入れるには: sudo ${command:-（お使いのディストリビューションの chromium パッケージ）}"
}

# --- npm, which fetches real tokenizers for the tests (Linux) -------------------------------

npm_command() {
    if command -v apt-get >/dev/null; then echo "apt-get install -y --no-install-recommends nodejs npm"
    elif command -v dnf >/dev/null; then echo "dnf install -y nodejs-npm"
    elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm npm"
    elif command -v zypper >/dev/null; then echo "zypper --non-interactive install npm-default"
    fi
}

install_npm() {
    local command
    command=$(npm_command)
    say "実物のトークナイザーのテストに使う npm を入れています…"
    # shellcheck disable=SC2086
    if install_from_system $command && command -v npm >/dev/null; then say "npm を入れました。"; return; fi
    say "足りないもの: npm（なければ make test-models が動きません）"
    say "  入れるには: sudo ${command:-（お使いのディストリビューションの nodejs と npm）}"
}

# --- what judges and starts desktop entries, for the tests (Linux) ----------------------------

has_desktop_tools() { command -v desktop-file-validate >/dev/null && command -v gio >/dev/null; }

desktop_tools_command() {
    if command -v apt-get >/dev/null; then
        echo "apt-get install -y --no-install-recommends desktop-file-utils libglib2.0-bin"
    elif command -v dnf >/dev/null; then echo "dnf install -y desktop-file-utils glib2"
    elif command -v pacman >/dev/null; then echo "pacman -S --noconfirm desktop-file-utils glib2"
    elif command -v zypper >/dev/null; then
        echo "zypper --non-interactive install desktop-file-utils glib2-tools"
    fi
}

install_desktop_tools() {
    # shellcheck disable=SC2046
    if install_from_system $(desktop_tools_command) && has_desktop_tools; then return; fi
    say "足りないもの: desktop-file-validate と gio（なければ、アプリの一覧に作る入口のテストを飛ばします）"
}

report_missing() {
    [ "$(uname)" = Linux ] || return 0
    has_openblas || install_openblas
    [ $group = app ] || has_best_browser || install_browser
    [ $group = app ] || command -v npm >/dev/null || install_npm
    [ $group = app ] || has_desktop_tools || install_desktop_tools
    command -v g++ >/dev/null || say "足りないもの: g++（なくても動きますが、MLXの計算の一部が遅くなります）"
}

# --------------------------------------------------------------------------------------------

if is_current $group; then
    build_kernels # of new sources
    [ $quiet = yes ] || say "準備はできています（変更はありません）。"
else
    make_environment
    install_packages
    report_missing
    build_kernels
    # The development pins hold all of the application's.
    fingerprint app > "$(stamp app)"
    [ $group = app ] || fingerprint dev > "$(stamp dev)"
    say "終わりました。次は make demo（お試し）か、.venv/bin/mlx-finetuning doctor（環境の確認）をどうぞ。"
fi
