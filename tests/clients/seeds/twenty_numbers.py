import random
import requests
import time

done = False
numbers = [random.randint(2, 2**20) for _ in range(20)]
while not done:
    done = True
    for n in numbers:
        status = requests.post(
            'http://localhost:8123/factorize', json={'number': n}
        ).json()

        if status['done']:
            print(f'{n:7d} =', status['factorization_str'])
        else:
            print(f'{n:7d} = ...')

        done = done and status['done']

    if not done:
        print()
        time.sleep(1)
