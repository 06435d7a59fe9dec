@echo off
rem The bot on Windows: what is missing is asked for first. Not run on Windows yet.
setlocal
cd /d "%~dp0"
set PYTHON=.venv\Scripts\python.exe
if not exist "%PYTHON%" (
    powershell -ExecutionPolicy Bypass -File setup.ps1
    if errorlevel 1 exit /b 1
)
if not exist .env (
    "%PYTHON%" -m bot setup
    if errorlevel 1 exit /b 1
)
"%PYTHON%" -m bot run %*
exit /b %errorlevel%
