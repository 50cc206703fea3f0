from flask import render_template

from app import app
from app.forms.classification_form import ClassificationForm
from ml.classification_utils import classify_image


@app.route('/classifications', methods=['GET', 'POST'])
def classifications():
    """API for selecting a model and an image and running a 
    classification job. Returns the output scores from the 
    model."""
    form = ClassificationForm()
    if form.validate_on_submit():
        image_id = form.image.data
        model_id = form.model.data
        clf_output = classify_image(model_id=model_id, img_id=image_id)
        result = dict(
            image_id=image_id,
            model_id=model_id,
            data=clf_output)

        return render_template('classification_output.html', results=result)

    return render_template('classification_select.html', form=form)
