def list_images():
    return ["n02085620.jpg", "n02391049.jpg"]
