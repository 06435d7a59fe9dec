# The bot's packages into .venv, and the questions: for Windows what `make setup` is elsewhere.
#   powershell -ExecutionPolicy Bypass -File setup.ps1
# Options go to the questions: setup.ps1 --yes --token-file token.txt. Not run on Windows yet.
$ErrorActionPreference = "Stop"
Set-Location -LiteralPath $PSScriptRoot
$python = Join-Path ".venv" "Scripts\python.exe"

function Invoke-Checked {
    $program, $arguments = $args
    & $program @arguments
    if ($LASTEXITCODE -ne 0) { throw "$program $arguments ended with $LASTEXITCODE" }
}

if (-not (Test-Path -LiteralPath $python)) {
    if (-not (Get-Command py -ErrorAction SilentlyContinue)) {
        throw "Python 3.11 or newer is needed: winget install Python.Python.3.12, then a new window."
    }
    Invoke-Checked py -3 -c "import sys; sys.exit(sys.version_info < (3, 11))"
    Invoke-Checked py -3 -m venv .venv
}
# A build that is there stays. PyPI's torch for Windows has no CUDA.
& $python -c "import torch" 2>$null
if ($LASTEXITCODE -ne 0) {
    $build = "cpu"
    if (Get-Command nvidia-smi -ErrorAction SilentlyContinue) { $build = "cu128" }
    Write-Host "Installing torch ($build; this takes a while, once)"
    Invoke-Checked $python -m pip install -q "torch>=2.8,!=2.9.*" torchvision --index-url "https://download.pytorch.org/whl/$build"
}
Write-Host "Installing the bot's packages"
Invoke-Checked $python -m pip install -q --no-deps --require-hashes -r requirements.lock
& $python -m bot setup @args
exit $LASTEXITCODE
