"""Objects in a photograph, told on this machine: one small network, its words, and two engines that run it.

The network is EfficientNet-Lite0, trained on ImageNet; `NOTICE` names the authors and licences, `build.py` makes the
data file. It knows 1,000 classes. It cannot say person, sky, sunset, tree, city or text.
"""
