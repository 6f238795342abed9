"""Load a page in the Chromium of Qt WebEngine, without a screen, and print its title once that is an object.

python chromium.py URL SECONDS
"""

import os
import sys

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QTWEBENGINE_DISABLE_SANDBOX", "1")
os.environ.setdefault("QTWEBENGINE_CHROMIUM_FLAGS", "--no-sandbox --disable-gpu")

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

app = QApplication(sys.argv[:1])
view = QWebEngineView()
view.resize(1000, 800)


def status(title: str) -> None:
    """Print the title and end, if the scenario has written it."""
    if title.startswith("{"):
        print(title, flush=True)
        app.quit()


view.titleChanged.connect(status)
QTimer.singleShot(int(1000 * float(sys.argv[2])), lambda: app.exit(3))
view.load(QUrl(sys.argv[1]))
view.show()
sys.exit(app.exec())
