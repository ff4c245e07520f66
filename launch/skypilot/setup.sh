set -e
command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
export PATH=$HOME/.local/bin:$PATH
[ -d ~/clipin ] || uv venv --python {{python}} ~/clipin
uv pip install --python ~/clipin/bin/python {{install}}
