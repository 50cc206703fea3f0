class Configuration:
    models = ("resnet18", "inception_v3")
